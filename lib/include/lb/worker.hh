// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include <lb/datagram.hh>
#include <lb/export.hh>
#include <lb/listener.hh>
#include <lb/result.hh>

namespace lb {

/// How a worker asks for an endpoint.
struct ListenOptions {
  int backlog = 511;     ///< listen(2)'s queue length, per listening socket; capped by net.core.somaxconn
  bool v6only = false;   ///< IPV6_V6ONLY: do not take IPv4 clients on an IPv6 endpoint (ipv6(7))
};

/// The worker's end of the cluster; liblb makes it and hands it to the worker function.
class LB_API Worker {
 public:
  class Impl;

  explicit Worker(std::unique_ptr<Impl> impl) noexcept;
  Worker(Worker&&) noexcept;
  ~Worker();

  /// Counts from 1 and is never used twice in a cluster, also not by a replacement.
  uint32_t id() const noexcept;

  /// Asks the primary for an endpoint and listens on it. Workers that ask for the same endpoint share it; the nth listen
  /// on one endpoint in this worker pairs with the nth in the others. Waits for the primary's answer.
  /// Errors are bind(2)'s and listen(2)'s, from the primary, naming the endpoint: "bind tcp://127.0.0.1:80: Address already in use".
  /// EPROTOTYPE for `udp://`, which has no connections: call `bind`.
  Result<Listener> listen(std::string_view endpoint, ListenOptions options = {}) noexcept;
  Result<Listener> listen(const Endpoint& endpoint, ListenOptions options = {}) noexcept;

  /// Asks the primary for a `udp://` endpoint; sharing, index and errors are as for `listen`. EPROTOTYPE: the endpoint is for
  /// connections, so `listen` is the call; EINVAL: an option out of range. Another server on the port gets EADDRINUSE.
  Result<DatagramSocket> bind(std::string_view endpoint, DatagramOptions options = {}) noexcept;
  Result<DatagramSocket> bind(const Endpoint& endpoint, DatagramOptions options = {}) noexcept;

  /// Readable when the primary has something to say; then call `dispatch`. For event loops: accept() does both by itself.
  int fd() const noexcept;

  /// Takes the primary's messages. Never waits. After it, ask `draining()`.
  Result<void> dispatch() noexcept;

  /// True once this worker should take no new connection, finish those it has, and return: the primary said so, the primary is
  /// gone, or this worker got SIGTERM.
  bool draining() const noexcept;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lb
