// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace lb {

/// Connections in a listening UNIX socket's accept queue, from the kernel's socket diagnostics (sock_diag(7)); where they are not to
/// be had, 1 if there is any. 0 for a socket of another kind.
uint32_t unix_queue_length(int listening_fd) noexcept;

}  // namespace lb
