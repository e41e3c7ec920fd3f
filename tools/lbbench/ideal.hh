// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "trace.hh"

namespace lbbench {

/// The trace through one central first-come-first-served queue and no cost of its own, the fastest idle worker first: for
/// service times that nobody knows in advance, no policy that serves a connection to its end can hope for less. A worker
/// that is to be stopped takes nothing meanwhile, and finishes what it has in time.
/// Gives the latency of every arrival, in the trace's order.
std::vector<uint64_t> simulate_ideal(const Trace& trace, const Fleet& fleet);

}  // namespace lbbench
