// SPDX-License-Identifier: MIT
#include "worker/signals.hh"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace lb {
namespace {

std::atomic<int> g_stop_fd{-1};
std::atomic<pid_t> g_worker{0};  // whose it is
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<pid_t>::is_always_lock_free, "a signal handler reads them");

/// A child that the worker has forked has this handler and the eventfd too: there the signal does what it does to any process.
void on_sigterm(int) {
  const int saved = errno;
  if (::getpid() != g_worker.load(std::memory_order_relaxed)) {
    ::signal(SIGTERM, SIG_DFL);
    ::raise(SIGTERM);  // comes as the handler returns
    errno = saved;
    return;
  }
  const uint64_t one = 1;
  (void)!::write(g_stop_fd.load(std::memory_order_relaxed), &one, sizeof one);
  errno = saved;
}

}  // namespace

void set_worker_signals(int stop_fd) noexcept {
  g_stop_fd = stop_fd;
  g_worker = ::getpid();
  struct sigaction action {};
  action.sa_flags = SA_RESTART;
  action.sa_handler = on_sigterm;
  ::sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = [](int) {};
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGHUP, &action, nullptr);
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
}

void forget_stop_fd() noexcept { g_stop_fd = -1; }

}  // namespace lb
