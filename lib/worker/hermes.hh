// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "worker/acceptor.hh"
#include "worker/slot_queues.hh"

namespace lb {

/// Of the 64 slots from `first` on, those whose workers pass the three filters; `queues` are the endpoint's. Only who is there
/// and not leaving counts.
uint64_t hermes_verdict(const Scoreboard& board, const SlotQueues& queues, uint32_t first, uint64_t now_ns) noexcept;

/// A worker under reuseport:hermes: says on its page what it is at, and whom it would let through. No system call.
class Hermes {
 public:
  Hermes(Workplace& place, const SlotQueues& queues) noexcept : place_(place), queues_(queues) {}

  /// It goes to work on a connection.
  void took() noexcept;
  /// It has found nothing, and is about to wait.
  void rests() noexcept;
  /// The selector is another now.
  void leave() noexcept;

 private:
  void enter(uint32_t events, bool rests) noexcept;

  Workplace& place_;
  const SlotQueues& queues_;
  bool takes_part_ = false;
};

}  // namespace lb
