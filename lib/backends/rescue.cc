// SPDX-License-Identifier: MIT
#include "backends/rescue.hh"

#include "sys/process.hh"
#include "wire/channel.hh"

namespace lb {
namespace {

constexpr int kRetry_ms = 20;               // a worker that does not read its control channel is told again
constexpr uint64_t kSweep_ns = 90'000'000;  // two looks find a worker that does not come for its queue, within 200 ms
constexpr uint64_t kIdleSweep_ns = 500'000'000;

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

/// In runs of neighbouring slots.
void Rescue::introduce_siblings(Slot& slot) noexcept {
  std::vector<int> run;
  bool told = true;
  for (uint32_t i = 0; i <= slots_.size(); ++i) {
    const bool sibling = i < slots_.size() && slots_[i].socket && &slots_[i] != &slot;
    if (!run.empty() && (!sibling || run.size() == kFdsMax)) {
      told &= tell(*slot.seat, Act::siblings, i - static_cast<uint32_t>(run.size()), run);
      run.clear();
    }
    if (sibling) run.push_back(slots_[i].socket.get());
  }
  slot.owed_siblings = !told;
  owing_ |= !told;
}

void Rescue::introduce(uint32_t slot) noexcept {
  const int socket = slots_[slot].socket.get();
  for (Slot& other : slots_)
    if (other.ready && !tell(*other.seat, Act::siblings, slot, {&socket, 1})) other.owed_siblings = owing_ = true;
}

void Rescue::adopt_orphans() noexcept {
  for (uint32_t i = 0; i < slots_.size(); ++i)
    if (orphaned(slots_[i])) find_adopter(i);
}

/// The least loaded of those who could: not one that does not come for its own.
void Rescue::find_adopter(uint32_t orphan) noexcept {
  const Slot* best = nullptr;
  uint32_t least = UINT32_MAX;
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].ready || i == orphan || slots_[i].stuck > 1) continue;
    uint32_t load = in_flight(i);
    for (const Slot& other : slots_) load += other.adopter == slots_[i].seat ? 1 : 0;
    if (load < least) {
      least = load;
      best = &slots_[i];
    }
  }
  if (best == nullptr) return;
  const int socket = slots_[orphan].socket.get();
  if (tell(*best->seat, Act::adopt, orphan, {&socket, 1}))
    slots_[orphan].adopter = best->seat;
  else
    owing_ = true;
}

void Rescue::disown(uint32_t slot) noexcept {
  if (auto adopter = std::exchange(slots_[slot].adopter, {})) tell(*adopter, Act::disown, slot);
}

void Rescue::release(const Seat& seat) noexcept {
  for (Slot& slot : slots_)
    if (slot.adopter == seat) slot.adopter.reset();
  adopt_orphans();
}

void Rescue::turn() noexcept {
  if (now_ns() >= next_sweep_ns_) sweep();
  if (!std::exchange(owing_, false)) return;
  for (Slot& slot : slots_)
    if (slot.owed_siblings && slot.seat) introduce_siblings(slot);
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
  adopt_orphans();  // when there was nobody, one who did not come for anything may do so by now
  next_sweep_ns_ = now_ns() + (active ? kSweep_ns : kIdleSweep_ns);
}

}  // namespace lb
