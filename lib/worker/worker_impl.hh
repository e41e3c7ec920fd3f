// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <lb/worker.hh>

#include "wire/channel.hh"
#include "worker/acceptor.hh"
#include "worker/inlet.hh"

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
  Result<Listener> listen(const Endpoint& endpoint, ListenOptions options) noexcept;
  Result<DatagramSocket> bind(const Endpoint& endpoint, DatagramOptions options) noexcept;
  /// A listener or datagram socket is closed: its index may be used again.
  void forget(Inlet* inlet, uint32_t cell, const std::string& key, uint32_t index) noexcept;
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
  std::map<uint32_t, Inlet*> listeners_;                 // by cell; datagram sockets too
  std::map<std::string, std::set<uint32_t>> indexes_;    // of the listeners on one endpoint
  bool draining_ = false;
  bool all_leave_ = false;
  bool connected_ = true;
};

}  // namespace lb
