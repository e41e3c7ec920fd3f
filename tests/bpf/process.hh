// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>
#include <string>

#include <lb/unique_fd.hh>

namespace lb::test {

/// Runs `body` in a forked child; returns what it returned: empty for success, else what went wrong.
template <class Body>
std::string in_child(Body body) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return "pipe2";
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return "fork";
  if (child == 0) {
    const std::string said = body();
    _exit(::write(write_end.get(), said.data(), said.size()) == static_cast<ssize_t>(said.size()) ? 0 : 1);
  }
  write_end.reset();
  std::string said;
  char buffer[512];
  for (ssize_t n; (n = ::read(read_end.get(), buffer, sizeof(buffer))) > 0;) said.append(buffer, static_cast<size_t>(n));
  int status = 0;
  if (::waitpid(child, &status, 0) != child || status != 0) return said + " (child's wait status " + std::to_string(status) + ")";
  return said;
}

/// Drops every capability but these.
inline bool keep_only(std::initializer_list<unsigned> capabilities) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  for (const unsigned number : capabilities) {
    data[CAP_TO_INDEX(number)].effective |= CAP_TO_MASK(number);
    data[CAP_TO_INDEX(number)].permitted |= CAP_TO_MASK(number);
  }
  return ::syscall(SYS_capset, &header, data) == 0;
}

}  // namespace lb::test
