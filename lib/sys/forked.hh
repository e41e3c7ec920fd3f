// SPDX-License-Identifier: MIT
// What a forked child does with its parent's: quickly, for it has as much of it as the parent has children.
#pragma once

#include <memory>
#include <utility>
#include <vector>

namespace lb {

/// How many forks this process is away from the one in which that was first asked: unlike getpid(2), without a system call. A child of
/// clone(2) by itself, for which the C library runs no handlers (pthread_atfork(3)), is not told apart from its parent.
unsigned fork_depth() noexcept;

/// Closes them, a run of neighbours at a time (close_range(2), 5.9); each must be open.
void close_all(std::vector<int> fds) noexcept;

/// Leaves objects in memory for good, destroyed or not. To free them would be to write to memory that is the parent's too, and each page
/// that is written to is copied first.
template <class T>
void leave(std::vector<std::unique_ptr<T>>&& objects) {
  static auto& left = *new std::vector<std::vector<std::unique_ptr<T>>>;  // never destroyed, and no leak to those who look for one
  left.push_back(std::move(objects));
}

}  // namespace lb
