// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "backends/rescue.hh"
#include "backends/reuseport_program.hh"

namespace lb {

/// Watches over a reuseport group of TCP listeners. Any process of the same user may join it (it gets nothing while the program
/// selects; without one, its share), and whoever holds a socket of the group may replace or detach the program. The kernel tells
/// neither, so the group's members are listed now and then (sock_diag(7)), and the program is taken to be gone when workers go on
/// accepting connections of which it picked none; it is then attached again. SO_LOCK_FILTER would not help: it keeps an attached
/// program only on the socket that it is set on, and from being replaced, not from being detached.
class GroupGuard {
 public:
  GroupGuard(Surroundings& around, uint32_t cell, const std::vector<Slot>& slots) : around_(around), cell_(cell), slots_(slots) {}

  /// At the end of each turn; looks a few times a second. `program`: null on the rungs without one.
  void turn(ReuseportProgram* program, const Endpoint& address) noexcept;

  /// What the slot's worker took by another way counts in this endpoint's cell from now on: the program has picked none of it.
  void recount(uint32_t slot) noexcept;

  /// Listening sockets in the group that are not ours, as of the last look.
  unsigned strangers() const noexcept { return strangers_; }
  /// Times that the program was gone and was attached again.
  uint64_t reattached() const noexcept { return reattached_; }

 private:
  void look_for_strangers(const Endpoint& address) noexcept;
  void look_after(ReuseportProgram& program, const Endpoint& address) noexcept;
  uint64_t newly_accepted() noexcept;
  uint64_t waiting(const Endpoint& address) const noexcept;

  Surroundings& around_;
  uint32_t cell_;
  const std::vector<Slot>& slots_;
  std::vector<uint64_t> accepted_{};          // by slot, as of the last look
  uint64_t picks_ = 0;                        // the same: of all slots
  std::optional<uint64_t> may_still_come_{};  // unpicked ones were accepted; so many were on their way then
  unsigned strangers_ = 0;
  uint64_t reattached_ = 0;
  std::optional<uint64_t> restored_at_{};  // picks when the program was attached again last
  uint64_t next_look_ns_ = 0;
  uint64_t next_listing_ns_ = 0;
};

}  // namespace lb
