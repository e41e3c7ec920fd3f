// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "client.hh"

namespace lbctl {

/// Serves the metrics at http://ADDRESS:PORT/metrics, asking the primary anew each time, until SIGINT or SIGTERM.
/// `listen`: "127.0.0.1:9100", "[::1]:9100"; port 0 takes any, and standard error says which. Throws Failure.
void serve_metrics(const Primary& primary, const std::string& listen);

/// What is wrong with such a `listen`; empty: nothing.
std::string check_listen(const std::string& listen);

}  // namespace lbctl
