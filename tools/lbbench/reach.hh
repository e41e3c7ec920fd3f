// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "options.hh"

namespace lbbench {

/// CPUs that this process may run on.
unsigned cpu_count();

/// Connections a second for each CPU, clients and servers on the same ones: an estimate, and more is not offered unasked.
constexpr double kRatePerCpuMax = 8'000;

/// What an open load takes of the CPUs, which workers and clients share; known before the run.
class Reach {
 public:
  Reach(const Scenario& scenario, unsigned workers, Work work, unsigned cpus = cpu_count());

  /// The highest utilization that finds room there, by estimate.
  double utilization() const { return cpus_ / (computing_ + rate_per_s_ / kRatePerCpuMax); }
  /// Why this utilization cannot be: what workers compute leaves no CPU time for the clients. Empty: it may.
  std::string refusal(double utilization) const;
  /// Why it is not likely to be. Empty: there is room for it.
  std::string warning(double utilization) const;

 private:
  double busy(double utilization) const;
  std::string advice() const;

  std::string scenario_;
  unsigned workers_;
  double cpus_;
  double computing_;   ///< workers that keep a CPU each when they are busy
  double rate_per_s_;  ///< at utilization 1; 0: not by the utilization
};

}  // namespace lbbench
