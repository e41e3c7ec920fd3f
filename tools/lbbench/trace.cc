// SPDX-License-Identifier: MIT
#include "trace.hh"

#include <algorithm>
#include <cmath>
#include <random>

namespace lbbench {
namespace {

constexpr double kNsPerMs = 1e6;
constexpr double kNsPerS = 1e9;

/// In [0, 1). The standard's distributions differ between libraries; its engines do not.
double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

double exponential(std::mt19937_64& random, double mean) { return -mean * std::log1p(-uniform(random)); }

uint64_t draw_ns(const std::vector<Service>& mix, std::mt19937_64& random) {
  double rest = uniform(random);
  const Service* chosen = &mix.back();
  for (const auto& service : mix) {
    rest -= service.share;
    if (rest < 0) {
      chosen = &service;
      break;
    }
  }
  const double ms = chosen->law == Law::fixed ? chosen->mean_ms : exponential(random, chosen->mean_ms);
  return static_cast<uint64_t>(std::llround(ms * kNsPerMs));
}

/// Part of the full rate; under a ramp it rises.
double rate_at(const Scenario& scenario, Period period, double at_ns) {
  for (unsigned step = 1; step < scenario.steps; ++step)
    if (at_ns < static_cast<double>(step_begin_ns(period, scenario.steps, step))) return static_cast<double>(step) / scenario.steps;
  return 1;
}

}  // namespace

Period period_of(double counted_s) {
  const double warm_up_s = std::clamp(counted_s / 10, 0.1, 1.0);
  return {static_cast<uint64_t>(warm_up_s * kNsPerS), static_cast<uint64_t>((warm_up_s + counted_s) * kNsPerS)};
}

uint64_t step_begin_ns(Period period, unsigned steps, unsigned index) {
  return index == 0 ? 0 : period.warm_up_ns + (period.end_ns - period.warm_up_ns) * index / steps;
}

Period counted_period(const Scenario& scenario, Period period) {
  return scenario.held_per_worker > 0 ? Period{period.end_ns, period.end_ns} : period;
}

double arrival_rate_per_s(const Scenario& scenario, unsigned workers, double utilization) {
  if (scenario.held_per_worker > 0) return scenario.held_per_worker * workers / (scenario.mean_life_ms() / 1e3);
  return fleet_of(scenario, workers, {}).capacity() * utilization / (scenario.mean_service_ms() / 1e3);
}

Fleet fleet_of(const Scenario& scenario, unsigned workers, Period period) {
  Fleet fleet{.workers = workers, .slow = static_cast<unsigned>(workers * scenario.slow_share), .slowdown = scenario.slowdown};
  if (scenario.hangs) {
    const uint64_t third_ns = (period.end_ns - period.warm_up_ns) / 3;
    fleet.hang_from_ns = period.warm_up_ns + third_ns;
    fleet.hang_to_ns = fleet.hang_from_ns + third_ns;
  }
  return fleet;
}

Trace make_trace(const Scenario& scenario, unsigned workers, double utilization, Period period, uint64_t seed) {
  std::mt19937_64 random(seed);
  Trace trace;
  if (scenario.load == Load::closed) return trace;
  const unsigned together = scenario.bursts ? workers : 1;
  const double full_gap_ns = kNsPerS * together / arrival_rate_per_s(scenario, workers, utilization);
  trace.reserve(static_cast<size_t>(1.1 * static_cast<double>(period.end_ns) / full_gap_ns * together) + 64);
  double at_ns = 0;
  while (true) {
    const double gap_ns = full_gap_ns / rate_at(scenario, period, at_ns);
    at_ns += scenario.bursts ? gap_ns : exponential(random, gap_ns);
    if (at_ns >= static_cast<double>(period.end_ns)) return trace;
    const auto begin_ns = static_cast<uint64_t>(at_ns);
    for (unsigned i = 0; i < together; ++i) {
      const uint64_t service_ns = draw_ns(scenario.services, random);
      const uint64_t life_ns = scenario.lives.empty() ? 0 : draw_ns(scenario.lives, random);
      trace.push_back({begin_ns, service_ns, std::min(life_ns, period.end_ns - begin_ns)});
    }
  }
}

}  // namespace lbbench
