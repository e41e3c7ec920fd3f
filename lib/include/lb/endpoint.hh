// SPDX-License-Identifier: MIT
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <string_view>

#include <lb/export.hh>
#include <lb/result.hh>

namespace lb {

/// An address that a server listens on, or that a client came from. Today: TCP over IPv4 and IPv6.
class LB_API Endpoint {
 public:
  Endpoint() noexcept = default;

  /// Reads `tcp://127.0.0.1:8080`, `tcp://[::1]:8080`; `tcp://*:80` is every IPv4 address; port 0 lets the kernel choose.
  /// Addresses are numeric: a listener has no use for a name. EINVAL with an `op` that says what is wrong.
  static Result<Endpoint> parse(std::string_view text) noexcept;

  /// From a socket address, as getsockname(2) and getpeername(2) give it. EAFNOSUPPORT for a family other than IP.
  static Result<Endpoint> from_sockaddr(const sockaddr* address, socklen_t length) noexcept;

  /// What `parse` reads back.
  std::string to_string() const;

  int family() const noexcept { return address_.ss_family; }
  in_port_t port() const noexcept;  ///< host byte order
  const sockaddr* address() const noexcept { return reinterpret_cast<const sockaddr*>(&address_); }
  socklen_t length() const noexcept { return length_; }

  bool operator==(const Endpoint& other) const noexcept;

 private:
  sockaddr_storage address_{};
  socklen_t length_ = 0;
};

}  // namespace lb
