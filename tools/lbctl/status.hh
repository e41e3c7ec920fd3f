// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "snapshot.hh"

namespace lbctl {

/// `lbctl status`: for a person.
std::string status_text(const Snapshot& snapshot);

/// What a worker holds, and after "+" what it reports beside that.
std::string load_text(const Worker& worker);
/// "3", or during a slow start "40%" of it.
std::string weight_text(const Worker& worker);

/// "reuseport:least-loaded (eBPF, kernel backlog), requested auto: why".
std::string policy_text(const Endpoint& endpoint);

}  // namespace lbctl
