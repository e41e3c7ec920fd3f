// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>

#include <lb/listener.hh>

#include "worker/acceptor.hh"
#include "worker/worker_impl.hh"

namespace lb {

class LB_HIDDEN Listener::Impl final : public Inlet {
 public:
  Impl(Worker::Impl& worker, std::unique_ptr<Acceptor> acceptor, Endpoint address, uint32_t cell, std::string key, uint32_t index)
      : worker_(worker), acceptor_(std::move(acceptor)), address_(address), cell_(cell), key_(std::move(key)), index_(index) {}
  ~Impl() { close(); }

  /// Makes the epoll instance that accept() waits on.
  Result<void> open() noexcept;

  std::optional<Connection> accept() noexcept;
  Result<std::optional<Connection>> try_accept() noexcept;
  Result<void> watch(int epoll_fd, uint64_t data) noexcept;
  int fd() noexcept;
  Connection adopt(UniqueFd fd) noexcept;
  const Endpoint& address() const noexcept { return address_; }
  const std::string& blob() const noexcept { return blob_; }
  void keep_blob(std::string_view blob) { blob_ = blob; }
  bool drained() const noexcept { return drained_; }
  Error error() const noexcept { return error_; }
  void close() noexcept;

  void told(const Message& message, Packet& packet) noexcept override { acceptor_->told(message, packet); }
  /// The worker drains.
  void retire() noexcept override { acceptor_->retire(worker_.all_leave()); }

 private:
  Result<std::optional<Connection>> take(bool nonblocking) noexcept;
  void wait(int timeout_ms) noexcept;
  bool may_go() noexcept;

  Worker::Impl& worker_;
  std::unique_ptr<Acceptor> acceptor_;
  Endpoint address_;
  uint32_t cell_;
  std::string key_;
  uint32_t index_;
  std::string blob_;
  UniqueFd waiting_;  // epoll: the acceptor's descriptors and the worker's events; for accept()
  UniqueFd hint_;     // epoll: the acceptor's descriptors; for fd()
  Error error_{};
  bool joined_ = false;
  bool drained_ = false;
  bool took_last_ = false;  // what it may have been woken for before it retired
  bool closed_ = false;
};

}  // namespace lb
