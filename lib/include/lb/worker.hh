// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <lb/datagram.hh>
#include <lb/export.hh>
#include <lb/listen_options.hh>
#include <lb/listener.hh>
#include <lb/result.hh>
#include <lb/user_message.hh>

namespace lb {

/// True in a worker process: one that a cluster forked, and a program that one started, before and after from_environment. In a
/// worker that is a thread: what the process is. (Node.js: isWorker; isMaster is its opposite.)
LB_API bool is_worker() noexcept;

/// The worker's end of the cluster; liblb makes it and hands it to the worker function, or the program asks for it.
class LB_API Worker {
 public:
  class Impl;

  explicit Worker(std::unique_ptr<Impl> impl) noexcept;
  Worker(Worker&&) noexcept;
  ~Worker();

  /// The Worker of a program that a Cluster spawned as a Command: from LB_WORKER_ID and LB_CHANNEL_FD, which it takes out of the
  /// environment, so that programs started from here are not mistaken for workers. Call it once, first thing in main: before that, a
  /// program started from here would have both, and SIGTERM kills. From then on signals are as in a forked worker: SIGTERM
  /// drains, SIGINT and SIGPIPE do nothing. ENOENT when no cluster started this process; EINVAL, EBADF, ENOTSOCK, EPROTOTYPE for
  /// variables that cannot be liblb's; EPROTO for a primary of another version.
  ///
  /// Destroying it says that the exit which follows is meant: with code 0 that is no crash. An exit while it lives is one, whatever
  /// the code (exit(3) destroys no local variable), unless the worker was told to drain.
  static Result<Worker> from_environment() noexcept;

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

  /// Sends a message to the primary's program, which takes it by Options::on_message; `fd`, if not -1, is duplicated and stays the
  /// caller's. Never waits. EMSGSIZE: longer than kUserMessageMax. EAGAIN: the primary has not read what was sent before; nothing
  /// was sent. EOPNOTSUPP: the primary does not listen to messages. EPIPE: it is gone. Else sendmsg(2)'s (EBADF, ENOMEM).
  Result<void> send(std::span<const std::byte> bytes, int fd = -1) noexcept;
  Result<void> send(std::string_view text, int fd = -1) noexcept { return send(bytes_of(text), fd); }

  /// Takes the messages that the primary sends (Cluster::send), in order: from `dispatch`, and from `accept`, which dispatches while
  /// it waits and now and then while it does not. Those that came before wait for it. It may send, reply, and replace or remove
  /// (empty) itself; it must not throw.
  Result<void> on_message(std::function<void(UserMessage& message)> callback) noexcept;
  /// Called from `dispatch` (and from `accept`, which dispatches) when this worker holds well more connections than the others, for a while
  /// after a newcomer began to listen: it may close `count` idle ones, so that their clients come back and are shared anew. Spread
  /// over Options::shed_over, with jitter, and with the load as it is by then: what is not closed is asked for again. It must not
  /// throw, accept or dispatch.
  void on_shed(std::function<void(unsigned count)> callback) noexcept;
  /// Load that connections do not show, in units of one connection: CPU work queued, subscriptions, a cache that is cold. Where
  /// connections go by load (Cluster::set_weight says where), it counts on top of those in flight until the next report; above 2^24 it
  /// counts as that. One store to shared memory, without a system call; from any thread. 0 at first.
  void report_load(uint32_t connections) noexcept;
  /// Asks to be drained, as SIGTERM does: for a worker that leaves by its own will (Node.js: worker.disconnect()). The primary sends
  /// it no more connections and does not replace it; `draining()` becomes true with its answer, at once if the primary is gone.
  void leave() noexcept;

  /// True once this worker should take no new connection, finish those it has, and return: the primary said so, the primary is
  /// gone, or this worker got SIGTERM.
  bool draining() const noexcept;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lb
