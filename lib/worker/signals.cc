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
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler reads it");

void on_sigterm(int) {
  const int saved = errno;
  const uint64_t one = 1;
  (void)!::write(g_stop_fd.load(std::memory_order_relaxed), &one, sizeof one);
  errno = saved;
}

}  // namespace

void set_worker_signals(int stop_fd) noexcept {
  g_stop_fd = stop_fd;
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
