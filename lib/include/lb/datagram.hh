// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include <lb/connection.hh>
#include <lb/endpoint.hh>
#include <lb/export.hh>
#include <lb/result.hh>

namespace lb {

/// How a worker asks for a `udp://` endpoint. The first worker that asks for it decides.
struct DatagramOptions {
  /// SO_RCVBUF (socket(7)) of each socket, in bytes: the kernel caps it at net.core.rmem_max and doubles it for its own overhead,
  /// which is some 700 bytes for a small datagram. 0: net.core.rmem_default. What does not fit is dropped, and counted in the
  /// status.
  int receive_buffer = 0;
  bool v6only = false;  ///< IPV6_V6ONLY: do not take IPv4 datagrams on an IPv6 endpoint (ipv6(7))
};

/// What came, beside the bytes.
struct Datagram {
  size_t size = 0;         ///< bytes in the caller's buffer; a datagram may be empty
  bool truncated = false;  ///< it was longer than the buffer, and the rest is lost
  Endpoint from;           ///< who sent it
  Endpoint to;             ///< our address that it came to: on `udp://*:PORT` one of the host's, else the bound one
};

/// A worker's end of a `udp://` endpoint. Unlike a listener it has no connections: each datagram is received by one worker.
///
/// Under `reuseport` with eBPF a flow (the datagrams from one address and port to one address and port) sticks to the worker that
/// it began with: a new flow goes to the least loaded worker, known ones stay until their worker leaves, and then move to another
/// with their next datagram. 65536 flows of an endpoint are remembered; the least recently heard are forgotten first.
/// `reuseport:hash` sticks too, but is blind to load, and flows change workers when sockets join. Under `shared` any worker may
/// get any datagram. `round-robin` cannot do datagrams and falls to `shared`, which the status says; LB_STRICT makes that an
/// error.
///
/// The load that a new flow is placed by: flows that the worker heard from in the last one to two seconds, datagrams that wait
/// for it, what it charges (`charge`), and 1 while it works on a datagram that the blocking `receive` gave it.
///
/// UDP loses datagrams, and so do workers: a worker that is killed loses those that it has received and not answered; those in
/// its socket are given to another worker. A worker that drains empties its socket's queue before it leaves. A shutdown drops what
/// arrives from then on. A worker that leaves datagrams waiting for about 200 ms (700 ms where nothing else happens) and has
/// nothing charged is taken for hung: its flows move, its queue goes to another. One with something charged is at work and keeps
/// its flows, also when it was stopped.
///
/// One thread uses a DatagramSocket at a time. It must not outlive its Worker. Not for use in a child that the worker forks.
class LB_API DatagramSocket {
 public:
  class Impl;

  explicit DatagramSocket(std::unique_ptr<Impl> impl) noexcept;
  DatagramSocket(DatagramSocket&&) noexcept;
  DatagramSocket& operator=(DatagramSocket&&) noexcept;
  ~DatagramSocket();

  /// Waits for a datagram. Empty once the worker is drained: told to leave, and nothing is queued for it any more.
  /// Also empty when receiving fails for good; `error()` then says why. Until the next call the worker counts as busy with it.
  std::optional<Datagram> receive(std::span<std::byte> buffer) noexcept;

  /// The next datagram if one is there, without waiting. Empty: none now; be told by `watch`. Errors: recvmsg(2)'s.
  Result<std::optional<Datagram>> try_receive(std::span<std::byte> buffer) noexcept;

  /// Answers from the address that the datagram came to, which a client behind a `udp://*:PORT` endpoint of a host with several
  /// addresses insists on (IP_PKTINFO, ip(7); IPV6_PKTINFO, ipv6(7)). Never waits. EAGAIN: the send buffer is full, so the answer
  /// is lost unless it is sent again; EMSGSIZE: longer than a datagram can be; else sendmsg(2)'s.
  Result<void> reply(const Datagram& question, std::span<const std::byte> bytes) noexcept;

  /// Sends to anyone, from the bound address or from what the kernel chooses for `udp://*:PORT`. Errors as for `reply`.
  Result<void> send(const Endpoint& to, std::span<const std::byte> bytes) noexcept;

  /// Adds this socket to the caller's epoll instance (epoll(7)), level-triggered and exclusive, with `data` in its events: then
  /// call `try_receive` until it is empty. Stays in until `close()`.
  Result<void> watch(int epoll_fd, uint64_t data) noexcept;

  /// The socket itself, non-blocking, for recvmmsg(2), sendmmsg(2) or io_uring. It stays ours. What is received past
  /// `try_receive` is not in `accepted`, and the queues of workers that left are seen by `try_receive` alone: call it too when
  /// `watch` says so, and `Worker::dispatch` when the worker's fd is readable, else this worker is taken for hung.
  int fd() const noexcept;

  /// Charges this worker with a flow (a session, a transfer) until the token is destroyed: new flows avoid it accordingly.
  /// One atomic addition in shared memory, no system call.
  LoadToken charge() noexcept;

  /// The bound address: with port 0 asked for, the port that all workers got.
  const Endpoint& address() const noexcept;

  /// True once receive() has returned empty because the worker was drained, or try_receive found a draining queue empty.
  bool drained() const noexcept;

  /// Why receive() gave up; {0, ""} if it did not.
  Error error() const noexcept;

  /// Closes the worker's end; its flows move and what is queued for it goes to another worker. Idempotent; the destructor calls
  /// it.
  void close() noexcept;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lb
