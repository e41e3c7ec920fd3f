// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <lb/worker.hh>

#include "wire/channel.hh"
#include "worker/acceptor.hh"

namespace lb {

class LB_HIDDEN Worker::Impl {
 public:
  /// Waits for the primary's welcome, maps the scoreboard and reports online.
  static Result<std::unique_ptr<Impl>> start(uint32_t id, UniqueFd channel, UniqueFd stop) noexcept;

  uint32_t id() const noexcept { return id_; }
  int fd() const noexcept { return events_.get(); }
  bool draining() const noexcept { return draining_; }
  bool all_leave() const noexcept { return all_leave_; }
  Workplace& place() noexcept { return place_; }

  Result<void> dispatch() noexcept;
  /// For a worker that is so busy that it never waits: it must hear of a drain and of new siblings all the same.
  void dispatch_if_due() noexcept;
  Result<Listener> listen(const Endpoint& endpoint, ListenOptions options) noexcept;
  /// A listener is closed: its index may be used again.
  void forget(Listener::Impl* listener, uint32_t cell, const std::string& key, uint32_t index) noexcept;
  /// Tells the primary that the exit that follows is meant.
  void announce_exit() noexcept;

 private:
  Impl(uint32_t id, UniqueFd channel, UniqueFd stop) noexcept : id_(id), channel_(std::move(channel)), stop_(std::move(stop)) {}
  Result<void> open() noexcept;
  Result<bool> receive(Message& message) noexcept;
  void act_on(const Message& message) noexcept;
  Result<void> wait_for_primary() noexcept;
  Result<void> send(Act act, uint32_t endpoint) noexcept;
  Result<Message> ask(Message& question) noexcept;
  void primary_gone() noexcept { draining_ = all_leave_ = true; }

  uint32_t id_;
  Channel channel_;
  UniqueFd stop_;    // eventfd: SIGTERM came
  UniqueFd events_;  // epoll: channel and stop
  Workplace place_;
  Packet packet_;    // descriptors of the message at hand
  std::map<uint32_t, Listener::Impl*> listeners_;        // by cell
  std::map<std::string, std::set<uint32_t>> indexes_;    // of the listeners on one endpoint
  uint64_t dispatched_ns_ = 0;
  bool draining_ = false;
  bool all_leave_ = false;
  bool connected_ = true;
};

}  // namespace lb
