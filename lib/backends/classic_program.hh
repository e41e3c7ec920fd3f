// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include <lb/result.hh>

namespace lb {

/// The unprivileged rung: a classic BPF program (SO_ATTACH_REUSEPORT_CBPF, socket(7), 4.5) that picks one of the group's
/// sockets at random among those named by their place in the group, the order in which they began to listen.
/// Attaching again replaces it. With nothing to choose from, the first socket gets all.
Result<void> attach_classic_program(int listening_fd, std::span<const uint32_t> places) noexcept;
/// Leaves the choice to the kernel's hash again, whatever program there was (SO_DETACH_REUSEPORT_BPF, 5.3).
void detach_program(int listening_fd) noexcept;

}  // namespace lb
