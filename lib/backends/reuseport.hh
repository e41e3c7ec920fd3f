// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backends/backend.hh"
#include "backends/group_guard.hh"
#include "backends/rescue.hh"
#include "backends/reuseport_program.hh"
#include "backends/selection.hh"
#include "sys/half_open.hh"
#include "sys/socket.hh"

namespace lb {

/// One endpoint's group of SO_REUSEPORT sockets, in the primary.
class ReuseportBackend final : public EndpointBackend {
 public:
  ReuseportBackend(Surroundings& around, const ListenRequest& request)
      : around_(around), request_(request), rescue_(
                                                around, request.cell, slots_, [this](uint32_t slot) { look_at(slot); },
                                                [](int fd) { return accept_queue_length(fd) != 0; }) {}

  Result<void> open() noexcept;
  Result<void> open(Heritage& heritage) noexcept;

  Result<Grant> grant(Seat seat) noexcept override;
  Result<void> set_backlog(int backlog) noexcept override;
  Result<void> reserve() noexcept override;
  void ready(Seat seat) noexcept override;
  void weigh(Seat seat) noexcept override;
  void recount(Seat seat) noexcept override { guard_.recount(seat.slot); }
  void draining(Seat seat) noexcept override;
  void left(Seat seat) noexcept override;
  void refuse_new() noexcept override;
  void turn() noexcept override {
    rescue_.turn();
    if (hold_ == Hold::whole) guard_.turn(program_.get(), address_);  // else the group is another's
  }
  int next_turn_ms() noexcept override { return rescue_.next_turn_ms(); }
  bool quiet(bool handshakes) noexcept override;
  Result<Heritage> bequeath() noexcept override;
  void resume() noexcept override;
  void lend() noexcept override;
  void retire(bool whole) noexcept override;
  bool emptied() noexcept override;
  bool lives_on(Seat seat) const noexcept override { return hold_ == Hold::none || seat.slot == 0; }
  void finish() noexcept override;
  bool may_select(Selector selector) const noexcept override {
    // A program is there or not, and hermes is the one that would be without any.
    return (request_.policy.selector == Selector::hash) == (selector == Selector::hash) &&
           (program_ || (request_.policy.selector == Selector::hermes) == (selector == Selector::hermes));
  }
  void select(Selector selector) noexcept override;
  Result<Endpoint> address() const noexcept override { return address_; }
  void identify(EndpointStatus& status) const override;
  void measure(EndpointStatus& status) const override;

 private:
  /// What is still ours of the group.
  enum class Hold {
    whole,   ///< all of it
    lent,    ///< the same, but none of its sockets is in our program's group, for another primary is taking it over
    queues,  ///< another backend has slot 0, to which all newcomers go: what is queued at the others is to be emptied
    none,    ///< another backend has all the sockets
  };

  Selector selector() const noexcept {
    return request_.policy.selector == Selector::standard ? Selector::least_loaded : request_.policy.selector;
  }
  /// Do idle workers take what waits at busy ones? Under a rule that means a certain worker they must not; without a program there is none.
  bool steals() const noexcept {
    return around_.stealing && selector() != Selector::hash && selector() != Selector::hermes &&
           (!program_ || permits_stealing(selector()));
  }
  /// Whatever select() may choose later.
  bool ever_steals() const noexcept {
    return around_.stealing && selector() != Selector::hash && (program_ || selector() != Selector::hermes);
  }
  void publish_rules() noexcept;
  Selector effective() const noexcept { return program_ ? selector() : classic_ ? Selector::random : Selector::hash; }
  Result<void> open_slot(uint32_t slot) noexcept;
  Result<UniqueFd> bind_slot() noexcept;
  Result<void> attach_program() noexcept;
  Result<void> insert(uint32_t slot) noexcept;
  void set_selector() noexcept;
  Result<void> descend(Error why) noexcept;
  void set_ready(uint32_t slot, bool ready) noexcept;
  void attach_classic() noexcept;
  void look_at(uint32_t index) noexcept;
  bool left_out(uint32_t slot) const noexcept { return program_ && program_->hung(slot); }
  bool adopted_backlog(const Seat& seat) const noexcept;
  uint32_t in_flight(uint32_t slot) const noexcept { return in_flight_of(around_.scoreboard.page(slot)); }

  Surroundings& around_;
  ListenRequest request_;
  Endpoint address_;
  std::vector<Slot> slots_;         // by slot
  std::vector<UniqueFd> reserved_;  // by slot: bound and not listening, until it is asked for
  Rescue rescue_;
  GroupGuard guard_{around_, request_.cell, slots_};
  uint32_t sockets_ = 0;
  std::unique_ptr<ReuseportProgram> program_;
  UniqueFd taken_;  // with a program: the workers' counts of what they took, by slot
  bool classic_ = false;
  Hold hold_ = Hold::whole;
  uint64_t retired_ns_ = 0;  // when another backend took over
  Handshakes refused_;       // under way when the cluster began to refuse newcomers
  Handshakes retiring_;      // under way when the other backend took over
  std::string reason_;
};

}  // namespace lb
