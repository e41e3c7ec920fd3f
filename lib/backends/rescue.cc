// SPDX-License-Identifier: MIT
#include "backends/rescue.hh"

#include <algorithm>

#include "sys/process.hh"
#include "wire/channel.hh"

namespace lb {
namespace {

constexpr int kRetry_ms = 20;               // a worker that does not read its control channel is told again
constexpr uint64_t kSweep_ns = 90'000'000;  // two looks find a worker that does not come for its queue, within 200 ms
constexpr uint64_t kIdleSweep_ns = 500'000'000;
constexpr int kUnreadMax = 4;  // words of siblings that a worker has not come to read
constexpr int kWaited = 2;     // looks in a row that found something queued that the adopter does not come for

/// A socket whose worker is gone keeps its queue (and, under the kernel's hash, goes on getting connections); one whose worker drains
/// or hangs may be in that queue for long.
bool orphaned(const Slot& slot) { return slot.socket && (!slot.seat || slot.leaving || slot.hung) && !slot.adopter; }

}  // namespace

bool Rescue::tell(const Seat& seat, Act act, uint32_t slot, std::span<const int> fds) noexcept {
  Message message;
  message.act = act;
  message.endpoint = cell_;
  message.value[0] = slot;
  return around_.tell(seat.worker, message, fds).ok();
}

void Rescue::nudge(uint32_t slot) noexcept {
  const uint64_t now = heartbeat(slot);
  if (slots_[slot].nudged_at != now && tell(*slots_[slot].seat, Act::nudge, 0)) slots_[slot].nudged_at = now;
}

/// What a worker that is at something long does not read counts as on its way, and for want of privileges no more descriptors than
/// RLIMIT_NOFILE may be (ETOOMANYREFS): then no further worker could be started, when it is needed most.
bool Rescue::reads(Slot& slot) noexcept {
  const uint64_t now = heartbeat(slot.seat->slot);
  if (std::exchange(slot.introduced_at, now) != now) slot.unread = 0;
  return slot.unread < kUnreadMax;
}

/// In runs of neighbouring slots. False if not all could be told: then it is told all of it again.
bool Rescue::tell_of_siblings(Slot& slot) noexcept {
  std::vector<int> run;
  bool told = true;
  bool some = false;
  for (uint32_t i = 0; i <= slots_.size(); ++i) {
    const bool sibling = i < slots_.size() && slots_[i].socket && &slots_[i] != &slot && slots_[i].place >= *slot.introduced;
    if (!run.empty() && (!sibling || run.size() == kFdsMax)) {
      const bool sent = tell(*slot.seat, Act::siblings, i - static_cast<uint32_t>(run.size()), run);
      told &= sent;
      some |= sent;
      run.clear();
    }
    if (sibling) run.push_back(slots_[i].socket.get());
  }
  slot.unread += some ? 1 : 0;
  return told;
}

void Rescue::introduce_all() noexcept {
  strangers_ = false;
  uint32_t places = 0;
  for (const Slot& slot : slots_)
    if (slot.socket) places = std::max(places, slot.place + 1);
  for (Slot& slot : slots_) {
    if (!slot.introduced || slot.leaving || *slot.introduced == places) continue;
    if (!reads(slot)) {
      strangers_ = true;  // at a sweep, or whatever turn comes first
    } else if (tell_of_siblings(slot)) {
      slot.introduced = places;
    } else {
      strangers_ = owing_ = true;
    }
  }
}

void Rescue::adopt_orphans() noexcept {
  for (uint32_t i = 0; i < slots_.size(); ++i)
    if (orphaned(slots_[i])) find_adopter(i);
}

/// Of those who could: not one that does not come for its own, or has not come since it was last nudged.
const Slot* Rescue::least_loaded(uint32_t orphan, std::span<const Slot* const> but) const noexcept {
  const Slot* best = nullptr;
  uint32_t least = UINT32_MAX;
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].ready || i == orphan || slots_[i].stuck > 1 || slots_[i].nudged_at == heartbeat(i)) continue;
    if (std::find(but.begin(), but.end(), &slots_[i]) != but.end()) continue;
    uint32_t load = in_flight(i);
    for (const Slot& other : slots_) load += other.adopter == slots_[i].seat ? 1 : 0;
    if (load < least) {
      least = load;
      best = &slots_[i];
    }
  }
  return best;
}

bool Rescue::adopt(const Slot& adopter, uint32_t orphan) noexcept {
  Slot& slot = slots_[orphan];
  const int socket = slot.socket.get();
  if (!tell(*adopter.seat, Act::adopt, orphan, {&socket, 1})) return false;
  slot.adopter = adopter.seat;
  slot.adopt_told_at = heartbeat(adopter.seat->slot);
  slot.waited = 0;
  std::erase(owed_disowns_, Disown{*adopter.seat, orphan});
  return true;
}

void Rescue::find_adopter(uint32_t orphan) noexcept {
  std::vector<const Slot*> deaf;  // they do not read what they have
  while (const Slot* best = least_loaded(orphan, deaf)) {
    if (adopt(*best, orphan)) return;
    owing_ = true;
    deaf.push_back(best);
  }
}

/// Its adopter may not have got the socket, for want of descriptors, or be busy: another is asked, or if there is none, the same one again.
/// True if something waits.
bool Rescue::look_after_adopted(uint32_t orphan) noexcept {
  Slot& slot = slots_[orphan];
  const bool nobodys = !slot.seat || slot.leaving || slot.hung;
  if (!slot.adopter || !nobodys || !waits_(slot.socket.get())) {
    slot.waited = 0;
    return false;
  }
  if (++slot.waited < kWaited) return true;
  const Slot* adopter = &slots_[slot.adopter->slot];
  if (least_loaded(orphan, {&adopter, 1}) != nullptr) {
    disown(orphan);
    nudge(static_cast<uint32_t>(adopter - slots_.data()));  // it is asked again once it has come to that
    find_adopter(orphan);
  } else if (heartbeat(slot.adopter->slot) != slot.adopt_told_at) {
    (void)adopt(*adopter, orphan);
  }
  return true;
}

void Rescue::disown(uint32_t slot) noexcept {
  if (auto adopter = std::exchange(slots_[slot].adopter, {})) tell_to_disown(*adopter, slot);
}

/// One that is not told would go on taking from a queue that may have a worker again.
void Rescue::tell_to_disown(const Seat& seat, uint32_t slot) noexcept {
  if (slots_[seat.slot].seat != seat || tell(seat, Act::disown, slot)) return;
  owed_disowns_.push_back({seat, slot});
  owing_ = true;
}

void Rescue::release(const Seat& seat) noexcept {
  for (uint32_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].adopter == seat) disown(i);
  adopt_orphans();
}

void Rescue::turn() noexcept {
  if (now_ns() >= next_sweep_ns_) sweep();
  const bool owing = std::exchange(owing_, false);
  if (strangers_) introduce_all();
  if (!owing) return;
  for (const Disown& owed : std::exchange(owed_disowns_, {})) tell_to_disown(owed.seat, owed.slot);
  adopt_orphans();
}

int Rescue::next_turn_ms() const noexcept { return owing_ ? kRetry_ms : ms_until(next_sweep_ns_); }

void Rescue::sweep() noexcept {
  bool active = false;
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (!slot.seat || slot.leaving) continue;
    const uint64_t accepted = slot.accepted;
    look_(i);
    active |= slot.stuck != 0 || slot.hung || slot.accepted != accepted || in_flight(i) != 0;
  }
  for (uint32_t i = 0; i < slots_.size(); ++i) active |= look_after_adopted(i);
  adopt_orphans();  // when there was nobody, one who did not come for anything may do so by now
  next_sweep_ns_ = now_ns() + (active ? kSweep_ns : kIdleSweep_ns);
}

}  // namespace lb
