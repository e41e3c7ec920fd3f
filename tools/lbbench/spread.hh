// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "result.hh"

namespace lbbench {

/// The least number of repeats whose range holds the median with 95 %.
constexpr unsigned kRepeatsForInterval = 6;

/// One figure over the repeats of a run. The interval is that of order statistics (David and Nagaraja, Order Statistics, 7.1): it assumes
/// nothing of how the figures are spread, only that repeats are independent. `confidence` is what it reaches: 0.95 or a little
/// more from kRepeatsForInterval repeats on; below that the interval is min to max, and reaches less.
struct Spread {
  size_t repeats = 0;
  double median = 0;
  double min = 0;
  double max = 0;
  double low = 0;
  double high = 0;
  double confidence = 0;
};
Spread spread_of(std::vector<double> values);

/// One policy's runs of one scenario, in the order of the repeats.
struct PolicyRuns {
  std::string policy;
  std::vector<const RunResult*> runs;

  std::vector<double> each(const std::function<double(const RunResult&)>& figure) const;
};
std::vector<PolicyRuns> by_policy(std::span<const RunResult> results);

/// p99 over that of the ideal for the same arrivals; the mere p99 where there is no ideal.
double p99_over_ideal(const RunResult& run);

/// "connections", or "requests" where those are what is measured; and in short, "conn" or "req".
const char* unit_of(const std::string& scenario);
const char* short_unit_of(const std::string& scenario);

/// Whether that is what a run is judged by. Else it is connections a second: of a closed loop, and the most that a ramp reached.
bool judged_by_latency(const RunResult& run);

/// Of a scenario that does harm nobody is the best: its connections are accounted for, and its figures say little.
bool is_harmed(const std::string& scenario);

/// Pairs of runs in the same repeat: what a policy's figure is in relation to another's, repeat by repeat.
std::vector<double> ratios_by_pair(const PolicyRuns& policy, const PolicyRuns& other,
                                   const std::function<double(const RunResult&)>& figure);

}  // namespace lbbench
