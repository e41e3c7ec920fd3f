// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <lb/unique_fd.hh>
#include <span>
#include <utility>

namespace lbbench {

/// A process of our own making, in a process group of its own (Ctrl-C is the main process's to act on); the kernel ends
/// it when the main process dies. Destroying it kills it.
class Child {
 public:
  /// Runs `body` in the child; its value is the exit code. Throws std::system_error when fork fails.
  explicit Child(const std::function<int()>& body);
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}
  Child& operator=(Child&&) = delete;
  ~Child();

  pid_t pid() const { return pid_; }
  /// Readable once it has ended.
  int fd() const { return pidfd_.get(); }
  bool ended() const;
  /// Waits for its end; kills it when that takes longer. Gives the exit code, or 128 + the signal.
  int wait(int timeout_ms);

 private:
  pid_t pid_ = -1;
  lb::UniqueFd pidfd_;
};

/// CPU time that the processes have used, user and system, all threads (their CPU clocks); those gone count 0.
uint64_t cpu_ns(std::span<const pid_t> pids);

/// The same of children that have been waited for, getrusage(2)'s RUSAGE_CHILDREN.
uint64_t ended_children_cpu_ns();

}  // namespace lbbench
