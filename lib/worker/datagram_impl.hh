// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include <lb/datagram.hh>

#include "worker/inlet.hh"
#include "worker/worker_impl.hh"

namespace lb {

class LB_HIDDEN DatagramSocket::Impl final : public Inlet {
 public:
  /// `own`: it is this worker's slot (reuseport), else one that all workers share.
  Impl(Worker::Impl& worker, UniqueFd socket, bool own, Endpoint address, uint32_t cell, std::string key, uint32_t index)
      : worker_(worker), socket_(std::move(socket)), own_(own), address_(address), cell_(cell), key_(std::move(key)),
        index_(index) {}
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() { close(); }

  /// Makes the epoll instance that receive() waits on.
  Result<void> open() noexcept;

  std::optional<Datagram> receive(std::span<std::byte> buffer) noexcept;
  Result<std::optional<Datagram>> try_receive(std::span<std::byte> buffer) noexcept;
  Result<void> send(const Endpoint& to, std::span<const std::byte> bytes, const Endpoint* from) noexcept;
  Result<void> watch(int epoll_fd, uint64_t data) noexcept;
  int fd() const noexcept { return socket_.get(); }
  LoadToken charge() noexcept;
  const Endpoint& address() const noexcept { return address_; }
  bool drained() const noexcept { return drained_; }
  Error error() const noexcept { return error_; }
  void close() noexcept;

  void told(const Message& message, Packet& packet) noexcept override;
  void retire() noexcept override;

 private:
  /// An epoll instance that we are in.
  struct Line {
    int epoll_fd;
    uint64_t data;
  };
  /// The socket of a slot without a worker, whose queue is ours to empty.
  struct Orphan {
    uint32_t slot;
    UniqueFd socket;
  };

  Result<std::optional<Datagram>> take(std::span<std::byte> buffer) noexcept;
  bool may_go() noexcept;
  void wait() noexcept;
  void rest() noexcept;
  Result<void> join(int epoll_fd, uint64_t data) noexcept;
  void leave_lines(int fd) noexcept;

  Worker::Impl& worker_;
  UniqueFd socket_;
  bool own_;
  Endpoint address_;
  uint32_t cell_;
  std::string key_;
  uint32_t index_;
  UniqueFd waiting_;  // epoll: our sockets and the worker's events; for receive()
  std::vector<Line> lines_;
  std::vector<Orphan> orphans_;
  LoadToken busy_;  // with the datagram that receive() gave last
  Error error_{};
  uint32_t turn_ = 0;
  bool joined_ = false;
  bool served_ = false;  // since it last waited
  bool drained_ = false;
  bool took_last_ = false;  // what it may have been woken for before it retired
  bool closed_ = false;
};

}  // namespace lb
