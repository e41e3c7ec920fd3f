// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "scenario.hh"

namespace lbbench {

/// One connection of an open loop.
struct Arrival {
  uint64_t at_ns;        ///< when it should begin, from the start of the run
  uint64_t service_ns;   ///< how long it keeps a worker, all its requests together
  uint64_t life_ns = 0;  ///< how long it is held open before it asks

  /// When its first request is due; from then on its latency counts.
  uint64_t ask_ns() const { return at_ns + life_ns; }
};

/// The arrivals of one run, fixed before it begins: every policy and the ideal get the same.
using Trace = std::vector<Arrival>;

/// How long a run lasts, and from when it counts.
struct Period {
  uint64_t warm_up_ns;  ///< connections that begin before this are served and not counted
  uint64_t end_ns;      ///< none begins after this
};

/// A tenth more than the counted part, within 0.1 s and 1 s.
Period period_of(double counted_s);
/// From when records count: under `held`, the burst at the end alone.
Period counted_period(const Scenario& scenario, Period period);

/// When step `index` of a ramp begins; the first takes the warm-up in.
uint64_t step_begin_ns(Period period, unsigned steps, unsigned index);

/// The workers as a scenario has them: some slow, one absent for a while.
struct Fleet {
  unsigned workers = 0;
  unsigned slow = 0;  ///< the first so many
  double slowdown = 1;
  uint64_t hang_from_ns = 0;  ///< the last worker is stopped from here
  uint64_t hang_to_ns = 0;    ///< to here; equal: it is not

  bool hangs() const { return hang_to_ns > hang_from_ns; }
  double slowdown_of(unsigned index) const { return index < slow ? slowdown : 1; }
  /// How many workers of full speed they are worth.
  double capacity() const { return workers - slow + slow / slowdown; }
};
Fleet fleet_of(const Scenario& scenario, unsigned workers, Period period);

/// Connections a second that keep `workers` busy for `utilization` of the time; or that make as many as are to be held open.
double arrival_rate_per_s(const Scenario& scenario, unsigned workers, double utilization);

/// The same arguments give the same trace on every machine.
Trace make_trace(const Scenario& scenario, unsigned workers, double utilization, Period period, uint64_t seed);

}  // namespace lbbench
