// SPDX-License-Identifier: MIT
#include "reach.hh"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cmath>

namespace lbbench {

unsigned cpu_count() {
  cpu_set_t cpus;
  return sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? static_cast<unsigned>(CPU_COUNT(&cpus)) : 1;
}

/// A ramp is to go beyond what workers can do, and ends there by itself.
Reach::Reach(const Scenario& scenario, unsigned workers, Work work, unsigned cpus)
    : scenario_(scenario.name), workers_(workers), cpus_(cpus),
      computing_(work == Work::cpu && scenario.steps == 0 && scenario.by_utilization() ? workers : 0),
      rate_per_s_(scenario.by_utilization() ? arrival_rate_per_s(scenario, workers, 1) : 0) {}

/// A worker that is offered more than it can do takes one CPU.
double Reach::busy(double utilization) const { return computing_ * std::min(utilization, 1.0); }

std::string Reach::refusal(double utilization) const {
  if (busy(utilization) < cpus_) return "";
  return fmt::format(
      "--utilization: {:g} of {} workers that compute takes {:.1f} of {:g} CPUs under {}, and clients need some too; {}",
      utilization, workers_, busy(utilization), cpus_, scenario_, advice());
}

std::string Reach::warning(double utilization) const {
  const double rate_per_s = rate_per_s_ * utilization;
  const double needed = busy(utilization) + rate_per_s / kRatePerCpuMax;
  if (needed <= cpus_) return "";
  return fmt::format(
      "{}: --utilization {:g} of {} workers is {:.0f} connections/s, and may take {:.1f} of {:g} CPUs, clients included: if they "
      "fall behind, the figures are the machine's; {}",
      scenario_, utilization, workers_, rate_per_s, needed, cpus_, advice());
}

std::string Reach::advice() const {
  constexpr double kStep = 0.01;  // also the least that can be asked for
  const double fits = std::floor(utilization() / kStep) * kStep;
  return fits < kStep ? "take fewer --workers" : fmt::format("up to {:.2f} fits, or fewer --workers", fits);
}

}  // namespace lbbench
