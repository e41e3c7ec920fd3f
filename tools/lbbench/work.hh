// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "options.hh"

namespace lbbench {

/// How far a sleep misses its end on this machine.
struct TimerError {
  int64_t median_ns = 0;           ///< how late a sleep ends; Workload takes so much off
  int64_t residual_median_ns = 0;  ///< what is left then
  int64_t residual_p90_ns = 0;

  /// Takes about 0.1 s.
  static TimerError measure();
};

/// Spends service times: asleep until a moment, or busy for as much CPU time.
class Workload {
 public:
  /// Sets the calling thread's timer slack to 1 ns (PR_SET_TIMERSLACK).
  /// Everything takes `slowdown` times as long.
  Workload(Work work, int64_t timer_error_ns, double slowdown = 1);

  /// Returns when `service_ns` have been spent since `begin_ns`; gives how much longer it took.
  /// Asleep, the time since `begin_ns` counts as spent; busy, only CPU time from now on does, so that
  /// workers that outnumber the CPUs cannot spend the same second twice.
  int64_t spend(uint64_t begin_ns, uint64_t service_ns) const;

 private:
  const Work work_;
  const int64_t timer_error_ns_;
  const double slowdown_;
};

}  // namespace lbbench
