// SPDX-License-Identifier: MIT
#include "sys/forked.hh"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace lb {

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
