// SPDX-License-Identifier: MIT
#pragma once

#include "client.hh"

namespace lbctl {

/// A live view on the terminal until `q`, SIGINT, SIGTERM or SIGHUP; the terminal is then as it was. Returns the exit code: 128 + the
/// signal. Throws Failure when there is no terminal, or nobody answers at first; a primary that goes away later is waited for.
int show_top(const Primary& primary, double every_s);

}  // namespace lbctl
