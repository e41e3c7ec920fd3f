// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "backends/backend.hh"
#include "sys/half_open.hh"
#include "sys/unix_path.hh"

namespace lb {

/// The one socket behind an endpoint, however it came to be: bound by us to an address or a path, or inherited. For the backends
/// that have one socket for all workers; it hides from them what the kinds of endpoint do differently.
class BoundSocket {
 public:
  BoundSocket() noexcept = default;  ///< none
  /// Binds, or duplicates what was inherited. A UNIX or inherited socket listens then, a TCP socket does not yet.
  static Result<BoundSocket> open(const Surroundings& around, const ListenRequest& request) noexcept;

  /// One that somebody else has bound to a TCP address for us: a slot of a reuseport group, or what another primary left.
  static BoundSocket adopt(UniqueFd fd, Endpoint address) noexcept;
  /// The same for any kind of endpoint, with the path of a UNIX socket, which is not ours to remove yet.
  static BoundSocket adopt(UniqueFd fd, Endpoint address, UnixPath path, bool inherited) noexcept;
  /// The same socket once more; a UNIX path goes with the last of them.
  Result<BoundSocket> duplicate() const noexcept;
  /// Of a UNIX socket, else null.
  UnixPath* path() const noexcept { return path_.get(); }
  UniqueFd release() noexcept { return std::move(fd_); }

  int get() const noexcept { return fd_.get(); }
  const Endpoint& address() const noexcept { return address_; }
  bool listens() const noexcept { return listens_; }
  /// The socket is somebody else's too: what is queued in it is not lost when we go.
  bool inherited() const noexcept { return inherited_; }

  /// Listens, or changes the backlog. An inherited socket that listens already is left as it is.
  Result<void> listen(int backlog) noexcept;

  /// Turns new clients away. TCP: their SYNs are dropped, so that handshakes under way complete. UNIX: shutdown(2) makes the kernel
  /// refuse them from that moment on, while those in the queue can still be accepted. An inherited socket is left alone: newcomers
  /// wait in its queue for whoever serves it next.
  void refuse_new() noexcept;
  /// After refuse_new: handshakes are under way. UNIX sockets have none.
  bool handshaking() noexcept;
  /// After refuse_new: how many of those who wait are ours to serve; all of them (UINT32_MAX), unless it is inherited.
  uint32_t ours() const noexcept;

 private:
  BoundSocket(UniqueFd fd, std::shared_ptr<UnixPath> path, Endpoint address) noexcept
      : fd_(std::move(fd)), path_(std::move(path)), address_(address) {}

  UniqueFd fd_;
  std::shared_ptr<UnixPath> path_;  // removed before the socket closes
  Endpoint address_;
  Handshakes handshakes_;
  bool listens_ = false;
  bool inherited_ = false;
};

}  // namespace lb
