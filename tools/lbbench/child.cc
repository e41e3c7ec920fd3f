// SPDX-License-Identifier: MIT
#include "child.hh"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <system_error>

#include "clock.hh"

namespace lbbench {

Child::Child(const std::function<int()>& body) {
  std::fflush(nullptr);  // what is buffered must not be written twice
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_DFL);
    _exit(body());
  }
  pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  if (!pidfd_) throw std::system_error(errno, std::generic_category(), "pidfd_open");
}

Child::~Child() {
  if (pid_ > 0) wait(0);
}

bool Child::ended() const {
  pollfd fd{pidfd_.get(), POLLIN, 0};
  return pid_ < 0 || ::poll(&fd, 1, 0) == 1;
}

int Child::wait(int timeout_ms) {
  if (pid_ < 0) return 0;
  const uint64_t deadline_ns = now_ns() + static_cast<uint64_t>(timeout_ms) * 1'000'000;
  for (uint64_t now = now_ns(); now < deadline_ns && !ended(); now = now_ns()) {
    pollfd fd{pidfd_.get(), POLLIN, 0};
    ::poll(&fd, 1, static_cast<int>((deadline_ns - now) / 1'000'000) + 1);
  }
  if (!ended()) ::kill(pid_, SIGKILL);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

uint64_t cpu_ns(std::span<const pid_t> pids) {
  uint64_t sum_ns = 0;
  for (const pid_t pid : pids) {
    clockid_t clock{};
    if (clock_getcpuclockid(pid, &clock) == 0) sum_ns += now_ns(clock);
  }
  return sum_ns;
}

uint64_t ended_children_cpu_ns() {
  rusage used{};
  getrusage(RUSAGE_CHILDREN, &used);
  const auto us = [](const timeval& time) {
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000 + static_cast<uint64_t>(time.tv_usec);
  };
  return 1000 * (us(used.ru_utime) + us(used.ru_stime));
}

}  // namespace lbbench
