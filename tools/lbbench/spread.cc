// SPDX-License-Identifier: MIT
#include "spread.hh"

#include <algorithm>
#include <cmath>

#include "scenario.hh"
#include "statistics.hh"

namespace lbbench {
namespace {

constexpr double kConfidence = 0.95;

/// Of n values in order, how likely the median lies between the k-th from below and the k-th from above (k from 0).
double coverage(size_t n, size_t k) {
  double outside = 0;  // P(Binomial(n, 1/2) <= k)
  double term = std::pow(0.5, static_cast<double>(n));
  for (size_t i = 0; i <= k; ++i) {
    outside += term;
    term *= static_cast<double>(n - i) / static_cast<double>(i + 1);
  }
  return std::max(0.0, 1 - 2 * outside);
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  const size_t n = values.size();
  size_t k = 0;
  while (2 * (k + 1) < n && coverage(n, k + 1) >= kConfidence) ++k;
  return {.repeats = n,
          .median = median(values),
          .min = values.front(),
          .max = values.back(),
          .low = values[k],
          .high = values[n - 1 - k],
          .confidence = coverage(n, k)};
}

std::vector<double> PolicyRuns::each(const std::function<double(const RunResult&)>& figure) const {
  std::vector<double> values;
  std::ranges::transform(runs, std::back_inserter(values), [&](const RunResult* run) { return figure(*run); });
  return values;
}

std::vector<PolicyRuns> by_policy(std::span<const RunResult> results) {
  std::vector<PolicyRuns> policies;
  for (const auto& run : results) {
    const auto known = std::ranges::find(policies, run.policy, &PolicyRuns::policy);
    (known == policies.end() ? policies.emplace_back(PolicyRuns{run.policy, {}}) : *known).runs.push_back(&run);
  }
  for (auto& policy : policies) std::ranges::stable_sort(policy.runs, {}, &RunResult::repeat);
  return policies;
}

double p99_over_ideal(const RunResult& run) {
  return run.ideal && run.ideal->p99 > 0 ? run.latency.p99 / run.ideal->p99 : run.latency.p99;
}

bool judged_by_latency(const RunResult& run) { return run.ideal.has_value() && run.ramp.empty(); }

const char* unit_of(const std::string& scenario) {
  const Scenario* known = find_scenario(scenario);
  return known != nullptr && known->each_request ? "requests" : "connections";
}

const char* short_unit_of(const std::string& scenario) {
  return std::string_view(unit_of(scenario)) == "requests" ? "req" : "conn";
}

bool is_harmed(const std::string& scenario) {
  const Scenario* known = find_scenario(scenario);
  return known != nullptr && known->harm != Harm::none;
}

std::vector<double> ratios_by_pair(const PolicyRuns& policy, const PolicyRuns& other,
                                   const std::function<double(const RunResult&)>& figure) {
  std::vector<double> ratios;
  for (const auto* run : policy.runs) {
    const auto pair = std::ranges::find(other.runs, run->repeat, &RunResult::repeat);
    if (pair != other.runs.end() && figure(**pair) > 0) ratios.push_back(figure(*run) / figure(**pair));
  }
  return ratios;
}

}  // namespace lbbench
