// SPDX-License-Identifier: MIT
#include "ramp.hh"

#include <fmt/format.h>

#include <algorithm>

#include "ideal.hh"
#include "table.hh"

namespace lbbench {
namespace {

constexpr double kBehindMax = 0.05;
constexpr size_t kBehindPerWorker = 4;

struct Span {
  uint64_t begin_ns;
  uint64_t end_ns;
  bool has(uint64_t at_ns) const { return at_ns >= begin_ns && at_ns < end_ns; }
  double seconds() const { return static_cast<double>(end_ns - begin_ns) / 1e9; }
};

Span span_of(Period period, unsigned steps, unsigned index) {
  return {index == 0 ? period.warm_up_ns : step_begin_ns(period, steps, index), step_begin_ns(period, steps, index + 1)};
}

/// Of one policy: the values of a step in those repeats that reached it.
std::string cell_of(const std::vector<const RunResult*>& runs, size_t step, Latency RampStep::*latency) {
  std::vector<double> values;
  for (const auto* run : runs)
    if (step < run->ramp.size()) values.push_back((run->ramp[step].*latency).p99);
  return values.empty() ? "-" : in_short(median(values));
}

}  // namespace

bool fell_behind(std::span<const Record> records, Period period, unsigned steps, unsigned index, unsigned workers) {
  const Span step = span_of(period, steps, index);
  size_t brought = 0;
  size_t waiting = 0;
  for (const auto& record : records) {
    const bool begun = record.intended_ns > 0 && record.intended_ns < step.end_ns;
    if (!begun) continue;
    if (step.has(record.intended_ns)) ++brought;
    if (record.outcome == Outcome::pending || record.intended_ns + record.latency_ns >= step.end_ns) ++waiting;
  }
  return static_cast<double>(waiting) > std::max(kBehindMax * static_cast<double>(brought), 1.0 * kBehindPerWorker * workers);
}

std::vector<RampStep> measure_ramp(std::span<const Record> records, const Trace& trace, const Fleet& fleet, Period period,
                                   unsigned steps, uint64_t end_ns) {
  const auto ideal_ns = simulate_ideal(trace, fleet);
  std::vector<RampStep> ramp;
  for (unsigned index = 0; index < steps; ++index) {
    const Span step = span_of(period, steps, index);
    if (step.end_ns > end_ns) break;
    std::vector<uint64_t> latencies_ns;
    size_t answered = 0;
    for (const auto& record : records) {
      const bool done = record.outcome == Outcome::answered;
      if (done && step.has(record.intended_ns + record.latency_ns)) ++answered;
      if (record.intended_ns == 0 || !step.has(record.intended_ns) || record.outcome == Outcome::not_begun) continue;
      latencies_ns.push_back(record.outcome == Outcome::pending ? end_ns - record.intended_ns : record.latency_ns);
    }
    std::vector<uint64_t> ideal_of_step_ns;
    for (size_t i = 0; i < trace.size(); ++i)
      if (step.has(trace[i].at_ns)) ideal_of_step_ns.push_back(ideal_ns[i]);
    ramp.push_back({.offered_per_s = static_cast<double>(latencies_ns.size()) / step.seconds(),
                    .throughput_per_s = static_cast<double>(answered) / step.seconds(),
                    .latency = summarize(std::move(latencies_ns)),
                    .ideal = summarize(std::move(ideal_of_step_ns))});
  }
  return ramp;
}

std::string ramp_table(const Scenario& scenario, double utilization, const std::vector<PolicyRuns>& policies) {
  std::vector<Column> columns{{"p99 in ms at"}};
  for (unsigned i = 0; i < scenario.steps; ++i)
    columns.push_back({fmt::format("{:.2g}", utilization * (i + 1) / scenario.steps), Best::none, scenario.steps - i});
  columns.push_back({"most/s", Best::high});
  Table table(columns);
  const auto add = [&](const std::string& name, const std::vector<const RunResult*>& runs, Latency RampStep::*latency) {
    std::vector<Cell> row{{name}};
    for (size_t i = 0; i < scenario.steps; ++i) row.push_back({cell_of(runs, i, latency)});
    row.push_back({});
    return row;
  };
  std::vector<const RunResult*> all;
  for (const auto& [policy, runs] : policies) all.insert(all.end(), runs.begin(), runs.end());
  table.add(add("ideal (simulated)", all, &RampStep::ideal));
  for (const auto& [policy, runs] : policies) {
    auto row = add(policy, runs, &RampStep::latency);
    std::vector<double> most;
    for (const auto* run : runs) most.push_back(run->throughput_per_s);
    row.back() = {fmt::format("{:.0f}", median(most)), median(most)};
    table.add(row);
  }
  return table.to_string();
}

}  // namespace lbbench
