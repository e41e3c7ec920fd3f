// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <lb/result.hh>
#include <lb/unique_fd.hh>

#include "lb_reuseport.h"

namespace lb {

/// The shared fields are plain integers, since BPF C and C++ both read them; C++ touches them as atomics only.
inline std::atomic<uint32_t>& atomic(__u32& field) noexcept { return reinterpret_cast<std::atomic<uint32_t>&>(field); }
inline std::atomic<uint64_t>& atomic(__u64& field) noexcept { return reinterpret_cast<std::atomic<uint64_t>&>(field); }
inline const std::atomic<uint32_t>& atomic(const __u32& field) noexcept {
  return reinterpret_cast<const std::atomic<uint32_t>&>(field);
}
inline const std::atomic<uint64_t>& atomic(const __u64& field) noexcept {
  return reinterpret_cast<const std::atomic<uint64_t>&>(field);
}
/// Connections that a worker has accepted and not yet closed.
inline uint32_t in_flight_of(const lb_worker_page& page) noexcept {
  return atomic(page.in_flight).load(std::memory_order_relaxed) & LB_IN_FLIGHT;
}
static_assert(sizeof(std::atomic<uint32_t>) == sizeof(__u32) && std::atomic<uint32_t>::is_always_lock_free);
static_assert(sizeof(std::atomic<uint64_t>) == sizeof(__u64) && std::atomic<uint64_t>::is_always_lock_free);
static_assert(offsetof(lb_worker_page, hermes) % 64 == 0 && sizeof(lb_hermes) == 64);
static_assert(sizeof(lb_worker_page) == LB_PAGE_SIZE && sizeof(lb_primary_page) == LB_PAGE_SIZE);

/// A memfd of a fixed size, zeroed: nobody can shrink it under the others' feet.
Result<UniqueFd> make_memory(const char* name, size_t size) noexcept;

/// Owns an mmap(2). A forked child may destroy its copy: only its own mapping goes, if it has one.
class Mapping {
 public:
  Mapping() noexcept = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  /// EPROTO when the descriptor, which a peer may have chosen, is too short or no memory at all.
  static Result<Mapping> map(int fd, size_t size, size_t offset, bool writable) noexcept;
  /// Children that are forked from now on do not get it (MADV_DONTFORK), nor does fork(2) copy its page table, entry by entry.
  void keep_from_children() noexcept;
  void* get() const noexcept { return start_; }

 private:
  static Result<void> check(int fd, size_t end) noexcept;

  void* start_ = nullptr;
  size_t size_ = 0;
  pid_t owner_ = 0;  // who alone has it; 0: its children do too
};

/// The worker pages and the primary's page, as one process sees them: the primary may write all worker pages and its own;
/// a worker only its own page, the others are read-only. This guards against bugs, not against hostile code in a worker.
class Scoreboard {
 public:
  /// Primary: takes the BPF array of the worker pages, or makes a memfd when `worker_pages` is empty.
  static Result<Scoreboard> create(UniqueFd worker_pages, uint32_t slots) noexcept;
  /// Worker: maps its own page and the primary's. EPROTO when the primary's layout is another version's.
  static Result<Scoreboard> join(int worker_pages, int primary_page, uint32_t slots, uint32_t own_slot) noexcept;
  /// Worker: maps the others' pages too. Only then is there any but its own: mapped from eBPF they are inserted one by
  /// one, which takes a tenth of a worker's start, and few look at them.
  Result<void> look_at_others(int worker_pages) noexcept;
  bool sees_others() const noexcept { return pages_.get() != nullptr; }

  uint32_t slots() const noexcept { return slots_; }
  /// A worker must only read the pages of others.
  lb_worker_page& page(uint32_t slot) noexcept {
    if (slot == own_slot_) return *static_cast<lb_worker_page*>(own_.get());
    return static_cast<lb_worker_page*>(pages_.get())[slot];
  }
  const lb_worker_page& page(uint32_t slot) const noexcept { return const_cast<Scoreboard*>(this)->page(slot); }
  lb_primary_page& primary() noexcept { return *static_cast<lb_primary_page*>(primary_.get()); }

  /// Primary: clears a slot's page for a new worker; what is known about the slot's socket stays.
  void vacate(uint32_t slot) noexcept;

  /// Primary: the slot's worker is to finish while others go on, or is gone. Seen at once, also by one that is slow to read its messages.
  void set_leaving(uint32_t slot, bool leaving) noexcept {
    auto& word = atomic(primary().leaving[slot / 64]);
    const uint64_t bit = uint64_t{1} << (slot % 64);
    leaving ? word.fetch_or(bit) : word.fetch_and(~bit);
  }
  bool leaving(uint32_t slot) const noexcept {
    const auto& page = *static_cast<const lb_primary_page*>(primary_.get());
    return (atomic(page.leaving[slot / 64]).load(std::memory_order_relaxed) >> (slot % 64) & 1) != 0;
  }

  /// Primary: by which the loads of a slot's worker are divided, 1 and up.
  void set_weight(uint32_t slot, uint16_t weight) noexcept { weights_[slot] = weight; }
  uint16_t weight(uint32_t slot) const noexcept { return weights_[slot]; }
  /// Primary: how much of its weight a slot's worker has, in 1..kShares; while all have all of it, 0 for each.
  static constexpr uint8_t kShares = 16;
  void set_share(uint32_t slot, uint8_t share) noexcept { shares_[slot] = share; }
  uint8_t share(uint32_t slot) const noexcept { return shares_[slot]; }
  /// Primary: by this its load is divided, in relation to the others'.
  uint32_t pull(uint32_t slot) const noexcept { return uint32_t{weights_[slot]} * std::max<uint32_t>(1, shares_[slot]); }
  /// Primary: load of a slot's worker as it publishes it: connections in flight, and what it reports on top.
  uint64_t load(uint32_t slot) const noexcept {
    return uint64_t{in_flight_of(page(slot))} + atomic(page(slot).reported).load(std::memory_order_relaxed);
  }

  int worker_pages_fd() const noexcept { return pages_fd_.get(); }
  int primary_page_fd() const noexcept { return primary_fd_.get(); }
  /// Primary: true when the BPF program can read the worker pages.
  bool in_bpf() const noexcept { return in_bpf_; }

 private:
  static constexpr uint32_t kNoSlot = ~0U;

  Mapping pages_;
  Mapping own_;
  Mapping primary_;
  UniqueFd pages_fd_;
  UniqueFd primary_fd_;
  std::vector<uint16_t> weights_;  // primary: by slot
  std::vector<uint8_t> shares_;    // the same
  uint32_t slots_ = 0;
  uint32_t own_slot_ = kNoSlot;
  bool in_bpf_ = false;
};

}  // namespace lb
