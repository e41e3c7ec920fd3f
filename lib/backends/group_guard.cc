// SPDX-License-Identifier: MIT
#include "backends/group_guard.hh"

#include <sys/stat.h>

#include "sys/half_open.hh"
#include "sys/process.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

constexpr uint64_t kPicksLook_ns = 80'000'000;
constexpr uint64_t kListing_ns = 1'000'000'000;

}  // namespace

void GroupGuard::turn(ReuseportProgram* program, const Endpoint& address) noexcept {
  const uint64_t now = now_ns();
  if (now < next_look_ns_) return;
  next_look_ns_ = now + kPicksLook_ns;
  if (program != nullptr) look_after(*program, address);
  if (now < next_listing_ns_) return;
  next_listing_ns_ = now + kListing_ns;
  look_for_strangers(address);
}

void GroupGuard::look_for_strangers(const Endpoint& address) noexcept {
  std::vector<uint32_t> own;
  for (const Slot& slot : slots_) {
    struct stat about {};
    if (slot.socket && ::fstat(slot.socket.get(), &about) == 0) own.push_back(static_cast<uint32_t>(about.st_ino));
  }
  const auto count = count_other_listeners(address, own);
  if (!count) return;  // forbidden here: then nothing is known
  const bool more = *count > strangers_;
  strangers_ = *count;
  if (more) around_.report(cell_, Event::Kind::stranger);
}

/// Of the slots that have a worker: a replacement counts from 0 again.
uint64_t GroupGuard::newly_accepted() noexcept {
  accepted_.resize(slots_.size());
  uint64_t sum = 0;
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].socket) continue;
    const uint64_t now = atomic(around_.scoreboard.page(i).cells[cell_].accepted).load();
    sum += now >= accepted_[i] ? now - accepted_[i] : now;
    accepted_[i] = now;
  }
  return sum;
}

void GroupGuard::recount(uint32_t slot) noexcept {
  accepted_.resize(slots_.size());
  accepted_[slot] = atomic(around_.scoreboard.page(slot).cells[cell_].accepted).load();
}

/// Queued, or with a handshake under way.
uint64_t GroupGuard::waiting(const Endpoint& address) const noexcept {
  const auto half_open = count_half_open(static_cast<sa_family_t>(address.family()), address.port());
  uint64_t sum = half_open ? *half_open : 0;
  for (const Slot& slot : slots_)
    if (slot.socket) sum += accept_queue_length(slot.socket.get());
  return sum;
}

/// What was picked before the last look may be accepted after it, so that many prove nothing.
void GroupGuard::look_after(ReuseportProgram& program, const Endpoint& address) noexcept {
  const uint64_t accepted = newly_accepted();  // first: what is accepted meanwhile was picked meanwhile
  uint64_t picks = 0;
  for (uint32_t i = 0; i < slots_.size(); ++i) picks += atomic(program.picks()[i].picks).load();
  if (std::exchange(picks_, picks) != picks) {
    may_still_come_.reset();
    return;
  }
  if (accepted == 0) return;
  if (!may_still_come_) {
    may_still_come_ = waiting(address);
    return;
  }
  if (accepted <= *may_still_come_) {
    *may_still_come_ -= accepted;
    return;
  }
  may_still_come_.reset();
  if (!program.attach(slots_[0].socket.get())) return;
  if (std::exchange(restored_at_, picks) == picks) return;  // the same trouble still, or counts without sense
  ++reattached_;
  around_.report(cell_, Event::Kind::program_restored);
}

}  // namespace lb
