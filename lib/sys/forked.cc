// SPDX-License-Identifier: MIT
#include "sys/forked.hh"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

namespace lb {
namespace {

std::atomic<unsigned> g_fork_depth{0};

}  // namespace

unsigned fork_depth() noexcept {
  static const int registered = ::pthread_atfork(nullptr, nullptr, [] { g_fork_depth.fetch_add(1, std::memory_order_relaxed); });
  (void)registered;  // no memory for it: then nobody is told
  return g_fork_depth.load(std::memory_order_relaxed);
}

void close_all(std::vector<int> fds) noexcept {
  std::sort(fds.begin(), fds.end());
  for (auto first = fds.begin(); first != fds.end();) {
    auto end = first + 1;
    while (end != fds.end() && *end == *(end - 1) + 1) ++end;
    const bool closed = ::syscall(SYS_close_range, static_cast<unsigned>(*first), static_cast<unsigned>(*(end - 1)), 0) == 0;
    for (; first != end; ++first)
      if (!closed) ::close(*first);
  }
}

}  // namespace lb
