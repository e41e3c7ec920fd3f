// SPDX-License-Identifier: MIT
#include "sys/process.hh"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>

#include "sys/error.hh"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace lb {

unsigned usable_cpus() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count > 0 ? static_cast<unsigned>(count) : 1;
}

namespace {

/// Whether a thread of this process is on its way out: no code of the process runs in it any more (proc_pid_stat(5): flags, PF_EXITING).
bool is_exiting(int tasks, const char* id) noexcept {
  constexpr unsigned kExiting = 0x4;
  char path[32];
  std::snprintf(path, sizeof path, "%.16s/stat", id);
  const UniqueFd file(::openat(tasks, path, O_RDONLY | O_CLOEXEC));
  char text[512];
  const ssize_t size = file ? ::read(file.get(), text, sizeof text - 1) : -1;
  if (size <= 0) return errno == ESRCH || errno == ENOENT;  // gone in the meantime
  text[size] = '\0';
  const char* name_end = std::strrchr(text, ')');  // the name may hold anything
  unsigned flags = 0;
  return name_end != nullptr && std::sscanf(name_end + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && (flags & kExiting) != 0;
}

struct Threads {
  unsigned running = 0;
  unsigned exiting = 0;
};

Threads list_threads(DIR* tasks) noexcept {
  Threads threads;
  ::rewinddir(tasks);
  while (const dirent* entry = ::readdir(tasks)) {
    if (entry->d_name[0] == '.') continue;
    ++(is_exiting(::dirfd(tasks), entry->d_name) ? threads.exiting : threads.running);
  }
  return threads;
}

}  // namespace

Result<unsigned> thread_count() noexcept {
  constexpr int kLooks = 1000;
  if (__libc_single_threaded) return 1U;  // spares a fork from the primary three looks into /proc
  DIR* tasks = ::opendir("/proc/self/task");
  if (tasks == nullptr) return last_error("opendir /proc/self/task");
  unsigned count = 0;
  // The kernel's list ends early at a thread that goes away as it is read, so those behind it may be missing: look again.
  for (int i = 0; i < kLooks; ++i) {
    const Threads threads = list_threads(tasks);
    count = std::max(count, threads.running);
    if (threads.exiting == 0) break;
    ::sched_yield();
  }
  ::closedir(tasks);
#ifdef __SANITIZE_THREAD__
  if (count > 1) --count;  // the sanitizer keeps a thread of its own, in some processes
#endif
  return std::max(count, 1U);
}

Result<UniqueFd> open_pidfd(pid_t pid) noexcept {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) return last_error("pidfd_open");
  return fd;
}

Result<void> signal_process(int pidfd, int signal) noexcept {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) != 0) return last_error("pidfd_send_signal");
  return {};
}

namespace {

Result<std::optional<ExitStatus>> wait_for(int pidfd, int options) noexcept {
  siginfo_t info{};
  while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info, WEXITED | options) != 0)
    if (errno != EINTR) return last_error("waitid");
  if (info.si_pid == 0) return std::optional<ExitStatus>();
  return std::optional(info.si_code == CLD_EXITED ? ExitStatus{info.si_status, 0} : ExitStatus{0, info.si_status});
}

}  // namespace

Result<ExitStatus> reap(int pidfd) noexcept {
  auto status = wait_for(pidfd, 0);
  if (!status) return status.error();
  return **status;
}

Result<std::optional<ExitStatus>> try_reap(int pidfd) noexcept { return wait_for(pidfd, WNOHANG); }

void reap_others(const std::function<bool(pid_t)>& ours) noexcept {
  for (;;) {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
    if (ours(info.si_pid)) return;  // its own way to be reaped comes first; what is behind it waits for the next time
    (void)::waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WNOHANG);
  }
}

void end_this_process_in(uint32_t ms) noexcept {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGKILL;
  timer_t timer{};
  if (::timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return;
  itimerspec once{};
  once.it_value = {static_cast<time_t>(ms / 1000), static_cast<long>(ms % 1000) * 1'000'000};
  ::timer_settime(timer, 0, &once, nullptr);
}

uint64_t now_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t to_ns(std::chrono::milliseconds time) noexcept {
  constexpr std::chrono::milliseconds kCentury = std::chrono::hours{24 * 36525};
  return static_cast<uint64_t>(std::min(time, kCentury).count()) * 1'000'000;
}

int ms_until(uint64_t due_ns) noexcept {
  if (due_ns == UINT64_MAX) return -1;
  const uint64_t now = now_ns();
  return due_ns <= now ? 0 : static_cast<int>(std::min<uint64_t>((due_ns - now) / 1'000'000 + 1, INT_MAX));
}

}  // namespace lb
