// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "backends/backend.hh"
#include "backends/heritage.hh"
#include "wire/handoff.hh"

namespace lb {

inline constexpr uint64_t kRetryPause_ns = 20'000'000;  // after running out of descriptors or memory
inline constexpr uint64_t kStallPauseMin_ns = 50'000'000;
inline constexpr uint64_t kInLoopMax_ns =
    20'000'000;  // after a hand-off an event loop that has not yet come for another is idle, it seems

/// round_robin.cc tells the story.
class RoundRobinBackend final : public EndpointBackend {
 public:
  RoundRobinBackend(Surroundings& around, const ListenRequest& request, BoundSocket socket, bool lent)
      : around_(around), request_(request), socket_(std::move(socket)), lent_(lent) {}
  ~RoundRobinBackend() override;

  /// Begins to accept.
  Result<void> open() noexcept;

  Result<Grant> grant(Seat seat) noexcept override;
  Result<void> set_backlog(int backlog) noexcept override { return socket_.listen(backlog); }
  void ready(Seat seat) noexcept override;
  void draining(Seat seat) noexcept override;
  void left(Seat seat) noexcept override;
  void refuse_new() noexcept override;
  bool quiet(bool handshakes) noexcept override;
  UnixPath* path() noexcept override { return socket_.path(); }
  Result<Heritage> bequeath() noexcept override;
  void retire(bool whole) noexcept override;
  bool emptied() noexcept override;
  void own() noexcept override;
  void finish() noexcept override { atomic(around_.scoreboard.primary().work[request_.cell]).store(0); }
  void select(Selector selector) noexcept override { request_.policy.selector = selector; }
  void turn() noexcept override;
  EventLoop::Sleep may_sleep() noexcept override;
  int next_turn_ms() noexcept override;
  Result<Endpoint> address() const noexcept override { return socket_.address(); }
  void identify(EndpointStatus& status) const override;
  void measure(EndpointStatus& status) const override;

 private:
  struct Waiting {
    UniqueFd fd;
    uint64_t since_ns = 0;
    bool again = false;  // another worker was to have it, and may still hold a copy
  };
  struct Handed {
    UniqueFd fd;  // our copy, until it is taken
    uint64_t since_ns = 0;
    Claim claim;
  };
  struct Peer {  // a worker on this endpoint
    Seat seat;
    UniqueFd channel;     // our end
    UniqueFd worker_end;  // a duplicate: lets us take unread packets back
    std::vector<Handed> handed;
    uint64_t handed_ns = 0;
    uint64_t picks = 0;
    uint64_t paused_until_ns = 0;  // it sat on hand-offs, refused them or cannot be sent to
    uint64_t stall_pause_ns = kStallPauseMin_ns;
    std::optional<uint64_t> stalled_at;  // its heartbeat when it sat on hand-offs: until that moves, it is hung
    HandoffPacket packet;                // being filled for it, with the descriptors that go with it
    int packed[kHandoffBatchMax] = {};
    bool ready = false;
    bool slow = false;      // something was recalled from it: nothing more ahead of time until it takes again
    bool had_room = false;  // custom: when the selector was asked last
  };
  struct Choice {
    Peer* peer;
    size_t room;
  };

  Peer* find(const Seat& seat) noexcept;
  void go_on_accepting() noexcept;
  void accepted(Result<UniqueFd> connection) noexcept;
  void accept_rest() noexcept;
  void accept_up_to_the_bound() noexcept;
  bool collect(Peer& peer) noexcept;
  void take_back(Peer& peer) noexcept;
  void put_back(Handed&& handed) noexcept;
  std::atomic<uint32_t>& waiting(const Peer& peer) const noexcept {
    return atomic(around_.scoreboard.page(peer.seat.slot).cells[request_.cell].waiting);
  }
  size_t share() const noexcept {
    return peers_.empty() ? 1 : std::clamp<size_t>(queue_.size() / peers_.size(), 1, around_.window);
  }
  enum class Room { none, ahead, idle };
  Room room(const Peer& peer, uint64_t now, size_t share) const noexcept;
  bool has_room(const Peer& peer, uint64_t now, size_t share) const noexcept { return room(peer, now, share) != Room::none; }
  bool has_ahead(const Peer& peer) const noexcept { return !peer.handed.empty() && waiting(peer).load() > LB_WAITING_IDLE; }
  size_t count_idle(uint64_t now) const noexcept {
    return static_cast<size_t>(
        std::count_if(peers_.begin(), peers_.end(), [&](const auto& p) { return room(*p, now, share()) == Room::idle; }));
  }
  void recall(uint64_t now) noexcept;
  Peer* pick(uint64_t now, size_t share) noexcept;
  bool hand_off(Peer& peer, size_t batch, uint64_t now) noexcept;
  bool pack(Peer& peer, Waiting& waiting) noexcept;
  void send(Peer& peer, uint64_t now) noexcept;
  void dispatch() noexcept;
  bool custom() const noexcept { return request_.policy.selector == Selector::custom; }
  void dispatch_by_selector() noexcept;
  void list_candidates(uint64_t now) noexcept;
  Candidate* ask(const Waiting& waiting, uint64_t now) noexcept;
  void publish() noexcept;
  bool less_loaded(const Peer& peer, const Peer& than) const noexcept;
  uint64_t heartbeat(const Peer& peer) const noexcept { return atomic(around_.scoreboard.page(peer.seat.slot).heartbeat).load(); }
  size_t spare(const Peer& peer) const noexcept;
  void ask_for_a_ring(Peer& peer) noexcept;
  std::span<__u32> claims(const Peer& peer) noexcept { return around_.scoreboard.page(peer.seat.slot).claims; }

  Surroundings& around_;
  ListenRequest request_;
  BoundSocket socket_;
  EventLoop::Token accept_token_ = 0;
  std::deque<Waiting> queue_;
  std::vector<std::unique_ptr<Peer>> peers_;
  size_t cursor_ = 0;                  // cyclic: the peer after the last one picked
  std::vector<Candidate> candidates_;  // custom: what the selector is shown, and
  std::vector<Choice> choices_;        // whom each of them stands for
  size_t left_waiting_ = 0;            // custom: connections in the queue after the selector was asked
  uint64_t ask_again_ns_ = 0;          // custom: when to ask about those that were to wait; 0: there are none
  uint64_t lost_ = 0;
  uint64_t retried_ = 0;
  uint64_t bad_picks_ = 0;
  uint64_t retry_ns_ = 0;  // when to accept again after EMFILE and its like, or begin to; 0: it accepts
  uint32_t arrivals_ = 0;  // since the loop slept last
  bool full_ = false;      // paused since the queue is full
  bool refusing_ = false;
  bool lent_;                         // what we would hold is lost if it does not become our own
  bool retired_ = false;              // another backend accepts
  uint32_t still_ours_ = UINT32_MAX;  // refusing: of those in the kernel's queue
};

}  // namespace lb
