// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include <lb/connection.hh>
#include <lb/endpoint.hh>
#include <lb/export.hh>
#include <lb/result.hh>

namespace lb {

/// A worker's end of an endpoint: it yields connections, the same way under every policy.
///
/// Blocking style: `while (auto connection = listener.accept()) ...`.
/// Event-loop style: `watch` an epoll instance (or poll `fd()`), and when it is readable call `try_accept` until it is empty.
/// One thread uses a Listener at a time. It must not outlive its Worker. Not for use in a child that the worker forks.
class LB_API Listener {
 public:
  class Impl;

  explicit Listener(std::unique_ptr<Impl> impl) noexcept;
  Listener(Listener&&) noexcept;
  Listener& operator=(Listener&&) noexcept;
  ~Listener();

  /// Waits for a connection. Empty once the worker is drained: told to leave, and nothing is queued for it any more.
  /// Also empty when accepting fails for good; `error()` then says why. EMFILE and its like wait and try again.
  /// The connection's socket is blocking.
  std::optional<Connection> accept() noexcept;

  /// The next connection if one is there, without waiting. Empty: none now; be told by `watch` or `fd()`.
  /// EMFILE, ENFILE, ENOBUFS, ENOMEM; EPERM and its like, again and again: back off; it stays queued or goes to another worker.
  /// The connection's socket is non-blocking.
  Result<std::optional<Connection>> try_accept() noexcept;

  /// Adds this listener to the caller's epoll instance (epoll(7)), level-triggered and exclusive, with `data` in its events.
  /// One wake-up for each connection among all workers; it stays in until `close()`. The fast way for an epoll loop.
  Result<void> watch(int epoll_fd, uint64_t data) noexcept;

  /// One pollable descriptor: readable means "call try_accept until it is empty". A hint: never call accept(2) on it.
  /// Stays the listener's. Under `shared` it is an epoll instance, whose wake-ups are not exclusive: prefer `watch`.
  int fd() noexcept;

  /// Charges this worker with a connection that a framework accepted itself.
  Connection adopt(UniqueFd fd) noexcept;

  /// The bound address: with port 0 asked for, the port that all workers got.
  const Endpoint& address() const noexcept;

  /// What the workers on this endpoint have in common (ListenOptions::blob); empty if nobody has set it.
  std::string_view blob() const noexcept;

  /// True once accept() has returned empty because the worker was drained, or try_accept found a draining queue empty.
  bool drained() const noexcept;

  /// Why accept() gave up; {0, ""} if it did not.
  Error error() const noexcept;

  /// Stops listening. What is queued for this worker alone goes to another one. Idempotent; the destructor calls it.
  void close() noexcept;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lb
