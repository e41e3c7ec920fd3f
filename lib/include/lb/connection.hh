// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <lb/endpoint.hh>
#include <lb/export.hh>
#include <lb/result.hh>
#include <lb/unique_fd.hh>

namespace lb {

/// One connection's share of its worker's load. Destroying it gives the load back; it must not outlive the Worker.
/// Costs one atomic subtraction in shared memory, and no system call unless the primary waits for it (Options::max_in_flight).
/// May be destroyed on any thread of the worker.
class LoadToken {
 public:
  LoadToken() noexcept = default;
  explicit LoadToken(std::atomic<uint32_t>* in_flight) noexcept : in_flight_(in_flight) {}
  LoadToken(LoadToken&& other) noexcept : in_flight_(std::exchange(other.in_flight_, nullptr)) {}
  LoadToken& operator=(LoadToken&& other) noexcept {
    if (this != &other) {
      reset();
      in_flight_ = std::exchange(other.in_flight_, nullptr);
    }
    return *this;
  }
  ~LoadToken() { reset(); }

  /// Gives the load back now.
  void reset() noexcept {
    if (in_flight_ == nullptr) return;
    std::atomic<uint32_t>& in_flight = *std::exchange(in_flight_, nullptr);
    if ((in_flight.fetch_sub(1, std::memory_order_relaxed) & kRingWhenLess) != 0) [[unlikely]]
      ring(in_flight);
  }

 private:
  /// Set in the word by a primary that holds connections back until this worker's load falls (Options::max_in_flight).
  static constexpr uint32_t kRingWhenLess = 0x80000000;
  LB_API static void ring(std::atomic<uint32_t>& in_flight) noexcept;

  std::atomic<uint32_t>* in_flight_ = nullptr;
};

/// Whether another process may hold the socket too: under round-robin the primary does until it sees that the hand-off was
/// taken. Closing our descriptor alone would then send no FIN, and an epoll instance would keep the socket (epoll(7), Q6), and say
/// that it is readable, until that copy is closed too.
struct Copies {
  static constexpr size_t kEpollsMax = 4;

  bool certain = false;                          ///< a worker that lost the hand-off may hold one for long
  const std::atomic<uint32_t>* claim = nullptr;  ///< the hand-off's claim word
  uint32_t held = 0;                             ///< what it says while the primary holds its copy
  const std::atomic<int>* epolls = nullptr;      ///< kEpollsMax of them, or none: where this worker's listeners are; 0: nowhere

  bool exist() const noexcept { return certain || (claim != nullptr && claim->load() == held); }
};

/// What release() gives: the descriptor for a framework, and the load to keep beside it. A framework that closes it within
/// microseconds of its arrival under round-robin deletes it from its epoll instance and calls shutdown(2) first (see Copies).
struct Released {
  UniqueFd fd;
  LoadToken load;
};

/// An accepted connection: move-only; closing it closes the socket and gives its load back.
/// The socket is non-blocking only if accepted with Listener::try_accept; it is close-on-exec.
/// Closing takes it out of the epoll instances that are given to Listener::watch; whoever has put it into another one deletes it
/// there first (epoll_ctl(2)).
class Connection {
 public:
  Connection() noexcept = default;
  Connection(UniqueFd fd, LoadToken load, Copies copies = {}) noexcept
      : load_(std::move(load)), fd_(std::move(fd)), copies_(copies) {}
  Connection(Connection&&) noexcept = default;
  Connection& operator=(Connection&& other) noexcept {
    if (this != &other) {
      close();
      load_ = std::move(other.load_);
      fd_ = std::move(other.fd_);
      copies_ = other.copies_;
    }
    return *this;
  }
  ~Connection() { close(); }

  int fd() const noexcept { return fd_.get(); }
  /// The client's address (getpeername(2)); ENOTCONN when it has already gone.
  LB_API Result<Endpoint> peer() const noexcept;
  /// Closes the socket and gives the load back.
  void close() noexcept {
    if (fd_ && copies_.exist()) [[unlikely]]
      part();
    fd_.reset();
    load_.reset();
  }
  /// Gives the socket to a framework, together with the load that it goes on being charged with.
  Released release() noexcept { return {std::move(fd_), std::move(load_)}; }

 private:
  /// What close(2) does to a socket of which there is no copy.
  LB_API void part() noexcept;

  LoadToken load_;  // outlives the fd: the socket is closed first, then the load is given back
  UniqueFd fd_;
  Copies copies_;
};

}  // namespace lb
