// SPDX-License-Identifier: MIT
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

#include <lb/result.hh>
#include <lb/unique_fd.hh>

namespace lb {

/// CPUs that this process may run on (sched_getaffinity(2)), at least 1.
unsigned usable_cpus() noexcept;

/// Threads that run in this process; one that was joined does not count, though the kernel may list it for a moment more. An error
/// where /proc/self/task, which tells, cannot be read; a process that never had a second thread needs none.
Result<unsigned> thread_count() noexcept;

/// Refers to a process for as long as it is held, so that no pid is ever mistaken for another (pidfd_open(2), 5.3).
Result<UniqueFd> open_pidfd(pid_t pid) noexcept;
/// Signals the process behind a pidfd; ESRCH once it is gone.
Result<void> signal_process(int pidfd, int signal) noexcept;

struct ExitStatus {
  int code = 0;
  int signal = 0;  ///< 0: it exited by itself
};
/// Reaps that one child (waitid(2), P_PIDFD) and no other: the primary may be PID 1 in a container.
Result<ExitStatus> reap(int pidfd) noexcept;
/// The same without waiting: empty if it has not ended, and as long as a debugger that traces it keeps its end to itself (ptrace(2)).
Result<std::optional<ExitStatus>> try_reap(int pidfd) noexcept;
/// Reaps all children that have ended and are not `ours`; looks at them first (WNOWAIT).
void reap_others(const std::function<bool(pid_t)>& ours) noexcept;

/// The kernel kills this process so much later, whatever it does (timer_create(2)); children that it forks are spared.
void end_this_process_in(uint32_t ms) noexcept;

/// Monotonic nanoseconds.
uint64_t now_ns() noexcept;
/// A time span, not negative; "for ever" is a century, so that nothing overflows.
uint64_t to_ns(std::chrono::milliseconds time) noexcept;
/// How long a loop may sleep until `due_ns`, as now_ns counts, rounded up; -1: for ever, if that is UINT64_MAX.
int ms_until(uint64_t due_ns) noexcept;

}  // namespace lb
