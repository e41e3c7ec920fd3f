// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <utility>

#include "sys/process.hh"
#include "wire/scoreboard.hh"

namespace lb {

using Ticks = uint32_t;  ///< of 1024 ns, modulo 2^32: as the selection program notes them

inline Ticks now_ticks() noexcept { return static_cast<Ticks>(now_ns() >> 10); }

/// What waits at the slots of one reuseport group, from memory alone: the program's picks and their times, less what workers have taken.
/// A hint: only the kernel knows which handshakes are over.
class SlotQueues {
 public:
  /// Without a program nothing is known.
  SlotQueues() noexcept = default;
  SlotQueues(Mapping picks, Mapping taken) noexcept : picks_(std::move(picks)), taken_(std::move(taken)) {}

  bool known() const noexcept { return picks_.get() != nullptr; }

  uint32_t picks(uint32_t slot) const noexcept {
    if (!known()) return 0;
    return static_cast<uint32_t>(atomic(picks_of(slot).picks).load(std::memory_order_relaxed));
  }
  /// Picks of a slot that nobody has taken yet: queued there, or handshakes under way, or given up.
  int32_t pending(uint32_t slot) const noexcept {
    if (!known()) return 0;
    return static_cast<int32_t>(picks(slot) - taken(slot).load(std::memory_order_relaxed));
  }
  /// How long the oldest of them has been on its way, from its SYN on.
  Ticks age_of_oldest(uint32_t slot, int32_t pending, Ticks now) const noexcept {
    const uint32_t number = picks(slot) - std::min<uint32_t>(static_cast<uint32_t>(pending), LB_PICK_TIMES);
    const Ticks age = now - atomic(picks_of(slot).made_at[number % LB_PICK_TIMES]).load(std::memory_order_relaxed);
    return age > (1U << 31) ? 0 : age;  // its time is being written
  }

  void count_taken(uint32_t slot) noexcept {
    if (pending(slot) > 0) taken(slot).fetch_add(1, std::memory_order_relaxed);
    correct(slot);
  }
  /// More was taken than picked: two counted the last at once, or a worker has written nonsense. Else nobody would look there until so
  /// many picks were made.
  void correct(uint32_t slot) noexcept {
    if (pending(slot) < 0) write_off(slot);
  }
  /// Nothing of it will ever be taken.
  void write_off(uint32_t slot) noexcept { taken(slot).store(picks(slot), std::memory_order_relaxed); }

 private:
  const lb_slot_picks& picks_of(uint32_t slot) const noexcept { return static_cast<const lb_slot_picks*>(picks_.get())[slot]; }
  std::atomic<uint32_t>& taken(uint32_t slot) const noexcept {
    return atomic(static_cast<lb_slot_taken*>(taken_.get())[slot].taken);
  }

  Mapping picks_;
  Mapping taken_;
};

}  // namespace lb
