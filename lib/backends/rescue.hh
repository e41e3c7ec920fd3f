// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "backends/backend.hh"

namespace lb {

/// One socket of a SO_REUSEPORT group, and whose it is. Without a socket it has never been asked for.
struct Slot {
  UniqueFd socket;
  std::optional<Seat> seat;            ///< whose it is
  std::optional<Seat> adopter;         ///< who empties its queue while nobody else does
  uint32_t place = 0;                  ///< in the order of listening, which is the group's own
  bool ready = false;                  ///< may be picked
  bool leaving = false;                ///< its worker drains
  bool hung = false;                   ///< out of the pick: its worker does not come for it
  std::optional<uint32_t> introduced;  ///< its worker listens, and knows the siblings whose place is less
  uint64_t introduced_at = 0;          ///< its worker's heartbeat when it was last told of some
  int unread = 0;                      ///< how often it was told since then
  int waited = 0;                      ///< looks in a row that found something queued in spite of its adopter
  uint64_t adopt_told_at = 0;          ///< its adopter's heartbeat when that was told
  int stuck = 0;                       ///< looks in a row that found something queued and the worker not coming for it
  uint64_t accepted = 0;               ///< as of the last look, as the next
  uint64_t heartbeat = 0;
  std::optional<uint64_t> nudged_at{};  ///< its worker's heartbeat when that was last nudged

  /// Its worker is gone.
  void vacate() noexcept {
    seat.reset();
    leaving = hung = false;
    introduced.reset();
    unread = 0;
    stuck = 0;
    nudged_at.reset();
  }
};

/// Who comes for a slot's queue when its own worker does not: idle siblings, which know each other's sockets, and for a queue that is
/// nobody's an adopter. `look` is the backend's own: it judges one slot that has a worker, a few times a second. `waits`: is something
/// queued at a listening or datagram socket?
class Rescue {
 public:
  Rescue(Surroundings& around, uint32_t cell, std::vector<Slot>& slots, std::function<void(uint32_t slot)> look,
         bool (*waits)(int fd))
      : around_(around), cell_(cell), slots_(slots), look_(std::move(look)), waits_(waits) {}

  /// Wakes a slot's worker to show itself; not twice before it has: one that does not read would find its channel full.
  void nudge(uint32_t slot) noexcept;

  /// A slot's worker listens: from the next turn on it is told of its siblings' sockets, as they come.
  void introduce_siblings(Slot& slot) noexcept {
    slot.introduced = 0;
    strangers_ = true;
  }
  /// A slot has got its socket: the others' workers are told at the next turn. Many start at a time, so that each is told of many at once.
  void introduce() noexcept { strangers_ = true; }

  /// Finds an adopter for every queue that is nobody's.
  void adopt_orphans() noexcept;
  void find_adopter(uint32_t orphan) noexcept;
  void disown(uint32_t slot) noexcept;
  /// This worker empties nobody's queue any more: others are to.
  void release(const Seat& seat) noexcept;

  void turn() noexcept;
  int next_turn_ms() const noexcept;

 private:
  /// A control message about one slot; false when the worker does not read what it has.
  bool tell(const Seat& seat, Act act, uint32_t slot, std::span<const int> fds = {}) noexcept;
  bool tell_of_siblings(Slot& slot) noexcept;
  bool reads(Slot& slot) noexcept;
  void introduce_all() noexcept;
  void tell_to_disown(const Seat& seat, uint32_t slot) noexcept;
  const Slot* least_loaded(uint32_t orphan, std::span<const Slot* const> but) const noexcept;
  bool adopt(const Slot& adopter, uint32_t orphan) noexcept;
  bool look_after_adopted(uint32_t orphan) noexcept;
  void sweep() noexcept;
  uint64_t heartbeat(uint32_t slot) const noexcept { return atomic(around_.scoreboard.page(slot).heartbeat).load(); }
  uint32_t in_flight(uint32_t slot) const noexcept { return in_flight_of(around_.scoreboard.page(slot)); }

  Surroundings& around_;
  uint32_t cell_;
  std::vector<Slot>& slots_;
  std::function<void(uint32_t)> look_;
  bool (*waits_)(int fd);
  bool strangers_ = false;  // some siblings do not know each other yet
  bool owing_ = false;      // something could not be told
  struct Disown {
    Seat seat;
    uint32_t slot;

    bool operator==(const Disown&) const = default;
  };
  std::vector<Disown> owed_disowns_;
  uint64_t next_sweep_ns_ = 0;
};

}  // namespace lb
