// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include "ledger.hh"

namespace lbbench {

struct FaultLoadPlan {
  uint16_t port;
  unsigned clients;  ///< connections under way at any time, about
  bool rude;         ///< some clients reset, stay half-way or close half
  uint64_t seed;
  Ledger* ledger;
  std::span<uint64_t> latencies_ns;  ///< of those completed; once full, each takes the place of one drawn at random
};

/// Clients that connect, ask, some of them for long, and enter in the ledger what becomes of each connection, until it says stop. For a
/// process of its own; gives its exit code.
int run_fault_load(const FaultLoadPlan& plan);

}  // namespace lbbench
