// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <lb/listener.hh>

#include "worker/acceptor.hh"
#include "worker/worker_impl.hh"

namespace lb {

class LB_HIDDEN Listener::Impl final : public Inlet {
 public:
  Impl(Worker::Impl& worker, std::unique_ptr<Acceptor> acceptor, Endpoint address, uint32_t cell, std::string key, uint32_t index)
      : worker_(worker), address_(address), key_(std::move(key)), index_(index) {
    sources_.push_back({std::move(acceptor), cell});
  }
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

  void told(const Message& message, Packet& packet) noexcept override;
  /// The worker drains.
  void retire() noexcept override {
    for (Source& source : sources_) {
      source.acceptor->retire(worker_.all_leave());
      if (worker_.to_others()) source.acceptor->leave_to_others();
    }
  }

 private:
  /// One way for connections to arrive.
  struct Source {
    std::unique_ptr<Acceptor> acceptor;
    uint32_t cell;
    bool parting = false;      // told to let go of it, once it has been looked at again
    unsigned takes_max = ~0U;  // parting: how many connections it may yield until then
  };
  /// An epoll instance that the listener is in.
  struct Line {
    int epoll_fd;
    uint64_t data;
  };
  Result<std::optional<Connection>> take(bool nonblocking) noexcept {
    auto taken = sources_.size() == 1 ? take_from(sources_[0], nonblocking) : take_from_all(nonblocking);
    if (!taken && behind(taken.error())) return std::optional<Connection>();
    return taken;
  }
  bool behind(const Error& error) const noexcept;
  Result<std::optional<Connection>> take_from(Source& source, bool nonblocking) noexcept;
  Result<std::optional<Connection>> take_from_all(bool nonblocking) noexcept;
  Result<void> join(int epoll_fd, uint64_t data) noexcept;
  bool must_empty() const noexcept;
  /// That nothing is there need not be certain: the epoll instances that our sockets are in are level-triggered. Not so when the queue is
  /// to be emptied for good, or for those who wait by `fd()`, maybe edge-triggered.
  bool may_guess() const noexcept { return sources_.size() == 1 && !hint_ && !worker_.draining(); }
  bool settled() noexcept;
  void rest() noexcept {
    for (Source& source : sources_) source.acceptor->rest();
  }
  Source* find(uint32_t cell) noexcept;
  bool gain(const Message& message) noexcept;
  void look_again() noexcept;
  void let_go(Source& source) noexcept;
  void wait(int timeout_ms) noexcept;
  bool may_go() noexcept;
  void end() noexcept;

  Worker::Impl& worker_;
  std::vector<Source> sources_;  // the policy's last: the others are from before it changed, and are emptied first
  std::vector<Line> lines_;
  UniqueFd look_;  // eventfd, once the policy has changed: makes the listener readable for a look at what is to be let go
  Endpoint address_;
  std::string key_;
  uint32_t index_;
  std::string blob_;
  UniqueFd waiting_;  // epoll: the acceptors' descriptors and the worker's events; for accept()
  UniqueFd hint_;     // epoll: the acceptors' descriptors; for fd()
  Error error_{};
  bool joined_ = false;
  bool took_ = false;  // a connection, when it last looked
  bool drained_ = false;
  bool took_last_ = false;  // what it may have been woken for before it retired
  bool closed_ = false;
};

}  // namespace lb
