// SPDX-License-Identifier: MIT
#pragma once

#include <netinet/in.h>

#include <lb/result.hh>

namespace lb {

/// How many handshakes are under way (TCP_SYN_RECV) at a local port, from the kernel's socket diagnostics (sock_diag(7)).
/// Needs no privilege. Handshakes under SYN cookies leave no trace and are not counted.
Result<unsigned> count_half_open(sa_family_t family, in_port_t port) noexcept;

}  // namespace lb
