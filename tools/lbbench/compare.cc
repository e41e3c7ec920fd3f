// SPDX-License-Identifier: MIT
#include "compare.hh"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "spread.hh"
#include "statistics.hh"
#include "table.hh"

namespace lbbench {
namespace {

constexpr int64_t kTimerErrorMax_ns = 50'000;  // a tenth of the shortest service time

double cpu_us(const RunResult& run) { return run.cpu.workers_us + run.cpu.primary_us; }
double throughput(const RunResult& run) { return run.throughput_per_s; }

uint64_t lost_of(const PolicyRuns& policy) {
  uint64_t lost = 0;
  for (const auto* run : policy.runs) lost += run->lost.total();
  return lost;
}

/// Why two runs are not of the same load; empty if they are.
std::string difference(const RunResult& a, const RunResult& b) {
  if (a.workers != b.workers) return fmt::format("{} workers before, {} after", a.workers, b.workers);
  if (a.utilization != b.utilization)
    return fmt::format("utilization {:g} before, {:g} after", a.utilization.value_or(0), b.utilization.value_or(0));
  if (a.ideal.has_value() != b.ideal.has_value()) return "only one has an ideal";
  if (a.http != b.http) return "only one is HTTP";
  return "";
}

void add_lines(ComparisonReport& report, const std::string& scenario, const PolicyRuns& before, const PolicyRuns& after) {
  const auto add = [&](const std::string& figure, bool low_is_good, double (*of)(const RunResult&)) {
    Comparison line{.scenario = scenario, .policy = before.policy, .figure = figure, .low_is_good = low_is_good};
    line.before = before.each(of);
    line.after = after.each(of);
    if (std::ranges::all_of(line.before, [](double value) { return value <= 0; })) return;  // not measured
    line.change = estimate_ratio(line.before, line.after, kConfidence);
    line.p = rank_sum_p(line.before, line.after);
    report.lines.push_back(std::move(line));
  };
  if (judged_by_latency(*before.runs.front())) {
    add("p99/ideal", true, p99_over_ideal);
  } else {
    add(std::string(short_unit_of(scenario)) + "/s", false, throughput);
  }
  add(std::string("CPU us/") + short_unit_of(scenario), true, cpu_us);
}

/// Which differences are real, all of them taken together (Holm, A simple sequentially rejective multiple test procedure, 1979).
std::vector<bool> real_ones(const std::vector<Comparison>& lines) {
  std::vector<size_t> order(lines.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return lines[i].p; });
  std::vector<bool> real(lines.size());
  for (size_t rank = 0; rank < order.size(); ++rank) {
    if (lines[order[rank]].p > (1 - kConfidence) / static_cast<double>(order.size() - rank)) break;
    real[order[rank]] = true;
  }
  return real;
}

Change verdict_on(const Comparison& line, bool real, double threshold, size_t comparisons) {
  const double bound = (1 - kConfidence) / static_cast<double>(comparisons);
  const bool beyond = line.change.ratio > 1 + threshold || line.change.ratio < 1 - threshold;
  if (real) {
    if (!beyond) return Change::none;
    return (line.change.ratio > 1) == line.low_is_good ? Change::worse : Change::better;
  }
  if (least_p(line.before.size(), line.after.size()) > bound) return Change::too_few;
  return line.change.low >= 1 - threshold && line.change.high <= 1 + threshold ? Change::none : Change::noise;
}

std::string percent(double ratio) { return fmt::format("{:+.1f} %", 100 * (ratio - 1)); }

std::string in_words(const Comparison& line) {
  switch (line.verdict) {
    case Change::none:
      return "no change";
    case Change::better:
      return "BETTER";
    case Change::worse:
      return "WORSE";
    case Change::noise:
      return "lost in noise";
    case Change::too_few:
      return "cannot tell";
  }
  return "";
}

}  // namespace

const char* to_string(Change change) {
  switch (change) {
    case Change::none:
      return "none";
    case Change::better:
      return "better";
    case Change::worse:
      return "worse";
    case Change::noise:
      return "noise";
    case Change::too_few:
      return "too few";
  }
  return "";
}

ComparisonReport compare_documents(const Document& before, const Document& after, double threshold) {
  ComparisonReport report;
  if (before.host.to_string() != after.host.to_string())
    report.notes.push_back(fmt::format("the machines differ, or their software: {} before, {} after", before.host.to_string(),
                                       after.host.to_string()));
  for (const auto& [host, when] : {std::pair(&before.host, "before"), std::pair(&after.host, "after")})
    if (host->timer && host->timer->residual_p90_ns > kTimerErrorMax_ns)
      report.notes.push_back(fmt::format("an unquiet machine {}: {}", when, host->timer_text()));
  for (const auto& scenario : before.scenarios()) {
    const auto results_before = before.results_of(scenario);
    const auto results_after = after.results_of(scenario);
    const auto policies_after = by_policy(results_after);
    for (const auto& policy : by_policy(results_before)) {
      const auto other = std::ranges::find(policies_after, policy.policy, &PolicyRuns::policy);
      if (other == policies_after.end()) {
        report.notes.push_back(fmt::format("{}, {}: only before", scenario, policy.policy));
        continue;
      }
      if (const auto why = difference(*policy.runs.front(), *other->runs.front()); !why.empty()) {
        report.notes.push_back(fmt::format("{}, {}: not compared: {}", scenario, policy.policy, why));
        continue;
      }
      if (!is_harmed(scenario)) add_lines(report, scenario, policy, *other);
      if (lost_of(*other) > 0 && lost_of(policy) == 0) {
        report.notes.push_back(
            fmt::format("{}, {}: WORSE: {} connections lost, none before", scenario, policy.policy, lost_of(*other)));
        report.regression = true;
      }
    }
  }
  for (const auto& scenario : after.scenarios()) {
    const auto results_before = before.results_of(scenario);
    const auto results_after = after.results_of(scenario);
    const auto known = by_policy(results_before);
    for (const auto& policy : by_policy(results_after))
      if (std::ranges::find(known, policy.policy, &PolicyRuns::policy) == known.end())
        report.notes.push_back(fmt::format("{}, {}: only after", scenario, policy.policy));
  }
  const auto real = real_ones(report.lines);
  for (size_t i = 0; i < report.lines.size(); ++i) {
    auto& line = report.lines[i];
    line.verdict = verdict_on(line, real[i], threshold, report.lines.size());
    report.regression = report.regression || line.verdict == Change::worse;
  }
  if (!report.lines.empty()) report.repeats_needed = repeats_for((1 - kConfidence) / static_cast<double>(report.lines.size()));
  return report;
}

std::string to_text(const ComparisonReport& report, double threshold) {
  Table table({{"scenario"}, {"policy"}, {"figure"}, {"before"}, {"after"}, {"change"}, {"95 %"}, {"p", Best::none, 1}, {"says"}});
  for (const auto& line : report.lines)
    table.add({{line.scenario},
               {line.policy},
               {line.figure},
               {in_short(median(line.before))},
               {in_short(median(line.after))},
               {percent(line.change.ratio)},
               {fmt::format("{:+.1f}..{:+.1f}", 100 * (line.change.low - 1), 100 * (line.change.high - 1))},
               {line.p < 0.001 ? "<0.001" : fmt::format("{:.3f}", line.p)},
               {in_words(line)}});
  std::string text = report.lines.empty() ? "The files have no policy and scenario in common.\n" : table.to_string();
  for (const auto& note : report.notes) text += wrap("! " + note, "    ");
  const auto too_few = std::ranges::count_if(report.lines, [](const Comparison& line) { return line.verdict == Change::too_few; });
  if (too_few > 0) {
    const auto& line = *std::ranges::find(report.lines, Change::too_few, &Comparison::verdict);
    text += wrap(fmt::format("Cannot tell: too few repeats ({} and {}); {} comparisons at once need --repeat {} in both.",
                             line.before.size(), line.after.size(), report.lines.size(), report.repeats_needed),
                 "  ");
  }
  text += wrap(
      fmt::format("change: after over before, the median ratio of all pairs of repeats, and its interval. p: Mann-Whitney, exact; "
                  "a change counts if Holm's bound for {} comparisons (95 % for all together) holds and it is more than {:g} %.",
                  report.lines.size(), 100 * threshold),
      "  ");
  return text;
}

}  // namespace lbbench
