// SPDX-License-Identifier: MIT
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <string_view>

#include <lb/export.hh>
#include <lb/result.hh>

namespace lb {

/// An address that a server listens on, or that a client came from.
class LB_API Endpoint {
 public:
  enum class Kind {
    none,
    tcp,          ///< connections over IPv4 or IPv6
    udp,          ///< datagrams over IPv4 or IPv6
    unix_socket,  ///< connections over a UNIX domain socket (unix(7)): a path, or an abstract name
    inherited,    ///< a socket that the primary was started with: by number, or by the name that systemd gave it
  };

  Endpoint() noexcept = default;

  /// Reads `tcp://127.0.0.1:8080`, `tcp://[::1]:8080`, `tcp://*:80` (every IPv4 address), the same with `udp://`; port 0 lets the
  /// kernel choose; `unix:/run/x.sock`, `unix:@name` (abstract); `fd:3`, `fd:http` (sd_listen_fds_with_names(3)).
  /// Addresses are numeric: a listener has no use for a name. EINVAL with an `op` that says what is wrong.
  static Result<Endpoint> parse(std::string_view text) noexcept;

  /// From a socket address, as getsockname(2) and getpeername(2) give it. EAFNOSUPPORT for a family other than IP and UNIX.
  static Result<Endpoint> from_sockaddr(const sockaddr* address, socklen_t length, int socket_type = SOCK_STREAM) noexcept;

  /// What `parse` reads back.
  std::string to_string() const;

  Kind kind() const noexcept { return kind_; }
  /// AF_INET, AF_INET6 or AF_UNIX; AF_UNSPEC for an inherited socket, of which nothing is known before it is asked.
  int family() const noexcept { return address_.ss_family; }
  in_port_t port() const noexcept;  ///< host byte order; 0 where there are no ports
  /// UNIX: the path, or "@name"; empty for a client that has no name. Inherited: the number or name. Else empty.
  std::string name() const;
  const sockaddr* address() const noexcept { return reinterpret_cast<const sockaddr*>(&address_); }
  socklen_t length() const noexcept { return length_; }

  bool operator==(const Endpoint& other) const noexcept;

 private:
  static Result<Endpoint> parse_ip(std::string_view text, std::string_view rest, Kind kind) noexcept;
  static Result<Endpoint> parse_unix(std::string_view text, std::string_view path) noexcept;
  static Result<Endpoint> parse_inherited(std::string_view text, std::string_view name) noexcept;

  sockaddr_storage address_{};  // of an inherited socket: sun_path holds its name
  socklen_t length_ = 0;
  Kind kind_ = Kind::none;
};

}  // namespace lb
