// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include <lb/export.hh>
#include <lb/listen_options.hh>
#include <lb/listener.hh>
#include <lb/result.hh>

namespace lb {

/// The worker's end of the cluster; liblb makes it and hands it to the worker function.
class LB_API Worker {
 public:
  class Impl;

  explicit Worker(std::unique_ptr<Impl> impl) noexcept;
  Worker(Worker&&) noexcept;
  ~Worker();

  /// Counts from 1 and is never used twice in a cluster, also not by a replacement.
  uint32_t id() const noexcept;

  /// Asks the primary for an endpoint and listens on it. Workers that ask for the same endpoint (address and `v6only`) share it; the
  /// nth listen on one endpoint in this worker pairs with the nth in the others, so a second one on a fixed port or path is
  /// EADDRINUSE. Waits for the primary's answer. `unix:` and `fd:` have one socket for all workers: `reuseport` is `shared`
  /// there, and the status says so.
  ///
  /// `unix:/PATH`: what a dead server left there is replaced; EADDRINUSE if a server lives there; ENOTSOCK if it is no socket,
  /// which is never removed. The primary removes the path when the last worker has closed the endpoint or the cluster ends, unless somebody has
  /// replaced it; after SIGKILL it stays, for the next server to replace.
  /// `fd:N`, `fd:NAME`: a listening or bound stream socket that was open in the primary when its cluster was made (EBADF, ENOTSOCK,
  /// EPROTOTYPE, EISCONN, EINVAL, EPERM, ENOENT say why it is not). The primary works on a duplicate, so that it stays open for another
  /// try. O_NONBLOCK is set on it, for all who hold it. A shutdown serves who waits in its queue by then; who comes later waits for
  /// the next server.
  ///
  /// Errors are bind(2)'s and listen(2)'s, from the primary, naming the endpoint: "bind tcp://127.0.0.1:80: Address already in use".
  /// They are told to every worker that asks, nothing is remembered, and another attempt may succeed. EINVAL: see ListenOptions.
  Result<Listener> listen(std::string_view endpoint, ListenOptions options = {}) noexcept;
  Result<Listener> listen(const Endpoint& endpoint, ListenOptions options = {}) noexcept;

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
