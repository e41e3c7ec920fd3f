// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <lb/unique_fd.hh>
#include <string>

/// For tests that change the network's settings: in a child process, with CAP_SYS_ADMIN.
namespace lb::test {

/// From here on this process has a network namespace of its own, with nothing but loopback, which is up (network_namespaces(7)).
inline bool enter_own_network() {
  if (::unshare(CLONE_NEWNET) != 0) return false;
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  return ::ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0;
}

/// Sets one of /proc/sys/net/ipv4 of this process's network namespace.
inline bool set_ipv4(const std::string& name, const std::string& value) {
  const UniqueFd fd(::open(("/proc/sys/net/ipv4/" + name).c_str(), O_WRONLY | O_CLOEXEC));
  return ::write(fd.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size());
}

}  // namespace lb::test
