// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <lb/worker.hh>

#include "wire/channel.hh"
#include "wire/user_channel.hh"
#include "worker/acceptor.hh"
#include "worker/inlet.hh"
#include "worker/own_acceptor.hh"

namespace lb {

class LB_HIDDEN Worker::Impl {
 public:
  /// Waits for the primary's welcome, maps the scoreboard and reports online.
  static Result<std::unique_ptr<Impl>> start(uint32_t id, UniqueFd channel, UniqueFd stop) noexcept;

  ~Impl();
  /// Called as it ends, before its channel closes.
  void at_end(std::function<void()> farewell) noexcept { farewell_ = std::move(farewell); }
  /// It is on the primary's own thread, which instead of waiting for the primary must drive it.
  void in_primary(std::function<Result<void>()> drive) noexcept { drive_ = std::move(drive); }
  bool is_in_primary() const noexcept { return static_cast<bool>(drive_); }

  uint32_t id() const noexcept { return id_; }
  int fd() const noexcept { return events_.get(); }
  bool draining() const noexcept { return draining_; }
  /// A process whose primary is gone: it finishes what it has, and another primary may want its addresses.
  bool orphaned() const noexcept { return orphaned_; }
  /// Nobody else empties the queues.
  bool all_leave() const noexcept { return all_leave_ && !to_others_; }
  /// The queues are another cluster's to empty by now.
  bool to_others() const noexcept { return to_others_; }
  Workplace& place() noexcept { return place_; }

  Result<void> dispatch() noexcept;
  /// For a worker that is so busy that it never waits: it must hear of a drain and of new siblings all the same.
  void dispatch_if_due() noexcept;
  void leave() noexcept;
  void on_shed(std::function<void(unsigned)> callback) noexcept { on_shed_ = std::move(callback); }
  Result<Listener> listen(const Endpoint& endpoint, const ListenOptions& options) noexcept;
  Result<void> send(std::span<const std::byte> bytes, int fd) noexcept;
  Result<void> on_message(std::function<void(UserMessage&)> callback) noexcept;
  Result<DatagramSocket> bind(const Endpoint& endpoint, DatagramOptions options) noexcept;
  /// A listener or datagram socket is closed: its index may be used again.
  void forget(Inlet* inlet, uint32_t cell, const std::string& key, uint32_t index) noexcept;
  /// Tells the primary that the exit that follows is meant.
  void announce_exit() noexcept;
  /// How connections arrive, as the primary said in the message at hand.
  Result<std::unique_ptr<Acceptor>> make_acceptor(const Message& answer, const ListenOptions& options, OwnSocket own) noexcept;
  /// A listener has got a further way for connections to arrive, and has let go of one, or could not have it.
  bool gained(Inlet* inlet, uint32_t cell) noexcept;
  void let_go(uint32_t cell) noexcept;

 private:
  Impl(uint32_t id, UniqueFd channel, UniqueFd stop) noexcept : id_(id), channel_(std::move(channel)), stop_(std::move(stop)) {}
  Result<void> open() noexcept;
  void publish_cpu() noexcept;
  Result<bool> receive(Message& message) noexcept;
  void act_on(const Message& message) noexcept;
  Result<void> receive_messages() noexcept;
  Result<void> wait_for_primary() noexcept;
  Result<void> send(Act act, uint32_t endpoint) noexcept;
  Result<Message> ask(Message& question, std::string_view payload = {}) noexcept;
  void primary_gone() noexcept;

  uint32_t id_;
  Channel channel_;
  UniqueFd stop_;      // eventfd: SIGTERM came
  UniqueFd messages_;  // the user's own, beside the control channel
  UniqueFd events_;    // epoll: channel, stop and, once somebody listens to them, messages
  Workplace place_;
  Packet packet_;                                      // descriptors of the message at hand
  std::array<char, Message::kPayloadMax> payload_;     // and what follows it
  std::map<uint32_t, Inlet*> listeners_;               // by cell; datagram sockets too
  std::map<std::string, std::set<uint32_t>> indexes_;  // of the listeners on one endpoint
  uint64_t dispatched_ns_ = 0;
  UserInbox inbox_;
  std::function<void(UserMessage&)> on_message_;
  bool delivering_ = false;  // a message is in the user's hands
  bool replaced_ = false;    // meanwhile, on_message_ was
  bool awaited_ = false;     // messages_ is in events_
  bool heard_ = false;       // the primary listens to messages
  std::function<void(unsigned)> on_shed_;
  uint32_t shed_ = 0;  // asked for, and not yet passed on
  std::function<void()> farewell_;
  std::function<Result<void>()> drive_;
  bool draining_ = false;
  bool all_leave_ = false;
  bool to_others_ = false;
  bool connected_ = true;
  bool orphaned_ = false;
  uint32_t outlive_max_ms_ = 0;  // how long it may outlive its primary; 0: a thread, which does not
};

}  // namespace lb
