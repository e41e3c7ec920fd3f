// SPDX-License-Identifier: MIT
#include "report.hh"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>

#include "fault_result.hh"
#include "ramp.hh"
#include "spread.hh"
#include "table.hh"

namespace lbbench {
namespace {

constexpr double kLateMs = 1.0;            // a generator that is later than this for 1 % of the connections has fallen behind
constexpr double kGeneratorCpuMax = 0.9;   // of one CPU: a generator is one thread
constexpr double kStallMs = 10;            // a burst of all that was due meanwhile follows, which no server was built to see
constexpr double kServiceErrorMax = 0.05;  // of the mean service time
constexpr double kOthersMax = 0.1;         // of the machine's CPU time
constexpr const char* kKernelHash = "reuseport:hash";

using Runs = std::vector<const RunResult*>;
using Figure = std::function<double(const RunResult&)>;

std::vector<double> each(const Runs& runs, const Figure& figure) {
  std::vector<double> values;
  std::ranges::transform(runs, std::back_inserter(values), [&](const RunResult* run) { return figure(*run); });
  return values;
}

Cell cell(const Runs& runs, const Figure& figure) {
  const double value = median(each(runs, figure));
  return {in_short(value), value};
}

Cell latency_cell(const Runs& runs, double Latency::*member) {
  return cell(runs, [=](const RunResult& run) { return run.latency.*member; });
}

Cell ideal_cell(std::span<const RunResult> results, double Latency::*member) {
  std::vector<double> values;
  for (const auto& run : results) values.push_back(run.ideal ? (*run.ideal).*member : 0);
  return {in_short(median(values))};
}

Cell count_cell(const Runs& runs, const Figure& figure) {
  const double value = median(each(runs, figure));
  return {fmt::format("{:.0f}", value), value};
}

Cell range_cell(const std::vector<double>& values) {
  if (values.empty()) return {"-"};
  return {fmt::format("{}..{}", in_short(std::ranges::min(values)), in_short(std::ranges::max(values)))};
}

Cell lost_cell(const Runs& runs) {
  uint64_t lost = 0;
  for (const auto* run : runs) lost += run->lost.total();
  return {std::to_string(lost)};
}

/// Of two runs in the same repeat, the ratio of a figure to the kernel hash's.
std::vector<double> ratios_to_hash(const Runs& runs, std::span<const RunResult> results, const Figure& figure) {
  std::vector<double> ratios;
  for (const auto* run : runs) {
    for (const auto& other : results) {
      if (other.repeat == run->repeat && other.policy == kKernelHash && figure(other) > 0)
        ratios.push_back(figure(*run) / figure(other));
    }
  }
  return ratios;
}

std::vector<double> ideal_ratios(const Runs& runs, double Latency::*member) {
  return each(runs, [=](const RunResult& run) {
    return run.ideal && (*run.ideal).*member > 0 ? run.latency.*member / (*run.ideal).*member : 0;
  });
}

void add_cost_cells(std::vector<Cell>& row, const Runs& runs) {
  row.push_back(cell(runs, [](const RunResult& run) { return run.share.max_over_mean; }));
  row.push_back(cell(runs, [](const RunResult& run) { return run.cpu.workers_us; }));
  row.push_back(cell(runs, [](const RunResult& run) { return run.cpu.primary_us; }));
  row.push_back(lost_cell(runs));
}

Table open_table(const Scenario& scenario, std::span<const RunResult> results,
                 const std::vector<std::pair<std::string, Runs>>& policies, bool repeated) {
  constexpr double Latency::*members[] = {&Latency::p50, &Latency::p90, &Latency::p99, &Latency::p99_9, &Latency::max};
  std::vector<Column> columns{{"latency in ms"},
                              {"p50", Best::low},
                              {"p90", Best::low, 3},
                              {"p99", Best::low},
                              {"p99.9", Best::low},
                              {"max", Best::low, 2},
                              {"p99/ideal", Best::low, 0, true}};
  if (repeated) columns.push_back({"min..max"});
  if (scenario.bursts) columns.push_back({"used", Best::high});
  if (scenario.held_per_worker > 0) columns.insert(columns.end(), {{"stddev", Best::low}, {"/hash", Best::low}});
  columns.insert(columns.end(),
                 {{"conn/s", Best::none, 4}, {"share", Best::low, 1}, {"w us", Best::low}, {"p us", Best::none}, {"lost"}});
  Table table(columns);
  std::vector<Cell> ideal{{"ideal (simulated)"}};
  for (const auto member : members) ideal.push_back(ideal_cell(results, member));
  ideal.push_back({"1.00"});
  ideal.resize(columns.size());
  table.add(ideal);
  for (const auto& [policy, runs] : policies) {
    std::vector<Cell> row{{policy}};
    for (const auto member : members) row.push_back(latency_cell(runs, member));
    const auto ratios = ideal_ratios(runs, &Latency::p99);
    row.push_back({in_short(median(ratios)), median(ratios)});
    if (repeated) row.push_back(range_cell(ratios));
    if (scenario.bursts) row.push_back(cell(runs, [](const RunResult& run) { return run.used_per_burst.value_or(0); }));
    if (scenario.held_per_worker > 0) {
      const auto stddev = [](const RunResult& run) { return run.share.stddev; };
      row.push_back(cell(runs, stddev));
      const auto over_hash = ratios_to_hash(runs, results, stddev);
      row.push_back(over_hash.empty() ? Cell{"-"} : Cell{in_short(median(over_hash)), median(over_hash)});
    }
    row.push_back(count_cell(runs, [](const RunResult& run) { return run.throughput_per_s; }));
    add_cost_cells(row, runs);
    table.add(row);
  }
  return table;
}

Table closed_table(const Scenario& scenario, std::span<const RunResult> results,
                   const std::vector<std::pair<std::string, Runs>>& policies, bool repeated) {
  std::vector<Column> columns{
      {"latency in ms"}, {std::string(short_unit_of(scenario.name)) + "/s", Best::high, 0, true}, {"/hash", Best::high}};
  if (repeated) columns.push_back({"min..max"});
  columns.insert(columns.end(), {{"p50", Best::low, 1},
                                 {"p99", Best::low},
                                 {"p99.9", Best::low},
                                 {"max", Best::low, 2},
                                 {"share", Best::low},
                                 {"w us", Best::low},
                                 {"p us"},
                                 {"lost"}});
  Table table(columns);
  for (const auto& [policy, runs] : policies) {
    std::vector<Cell> row{{policy}, count_cell(runs, [](const RunResult& run) { return run.throughput_per_s; })};
    const auto ratios = ratios_to_hash(runs, results, [](const RunResult& run) { return run.throughput_per_s; });
    row.push_back(ratios.empty() ? Cell{"-"} : Cell{in_short(median(ratios)), median(ratios)});
    if (repeated) row.push_back(range_cell(ratios));
    for (const auto member : {&Latency::p50, &Latency::p99, &Latency::p99_9, &Latency::max})
      row.push_back(latency_cell(runs, member));
    add_cost_cells(row, runs);
    table.add(row);
  }
  return table;
}

std::string heading(const Scenario& scenario, const Options& options, const RunResult& any, unsigned repeats) {
  std::string text =
      fmt::format("{} {} workers{}", any.workers, to_string(options.model_of(scenario)), any.http ? ", over HTTP" : "");
  if (any.utilization)
    text += fmt::format(", utilization {:g} ({:.0f} connections/s), service by {}", *any.utilization,
                        arrival_rate_per_s(scenario, any.workers, *any.utilization), to_string(options.work));
  if (scenario.held_per_worker > 0)
    text += fmt::format(", each with {} connections open on average; stddev of how many at the end", scenario.held_per_worker);
  text += fmt::format("; {} x {:g} s, seed {}.", repeats, options.duration_of(scenario), options.seed);
  return wrap(fmt::format("{}: {}", scenario.name, scenario.sentence), "  ") + wrap(text, "");
}

/// What a reader must know before trusting a row: fallbacks, losses by kind, crashes, a machine in trouble.
std::vector<std::string> notes_on(const Scenario& scenario, const std::string& policy, const Runs& runs) {
  std::vector<std::string> notes;
  const auto note = [&](const std::string& line) { notes.push_back(policy + line); };
  const RunResult& last = *runs.back();
  if (!last.fallback.empty()) note(fmt::format(" ran as {} ({}): {}", last.effective, last.rung, last.fallback));
  Lost lost;
  uint64_t not_begun = 0;
  unsigned crashed = 0;
  for (const auto* run : runs) {
    lost.refused += run->lost.refused;
    lost.reset += run->lost.reset;
    lost.timeout += run->lost.timeout;
    not_begun += run->generator.not_begun;
    crashed += run->crashed_workers;
  }
  if (lost.total() > 0) note(fmt::format(": lost {} refused, {} reset, {} timed out", lost.refused, lost.reset, lost.timeout));
  if (crashed > 0) note(fmt::format(": workers that crashed: {}", crashed));
  if (not_begun > 0) note(fmt::format(": not the server's fault: no descriptor or port for {} connections", not_begun));
  if (last.hang) {
    uint64_t sent = 0;
    for (const auto* run : runs) sent += run->hang->sent_after_notice;
    const double p99 = median(each(runs, [](const RunResult& run) { return run.hang->others.p99; }));
    const double ratio = median(each(
        runs, [](const RunResult& run) { return run.hang->without.p99 > 0 ? run.hang->others.p99 / run.hang->without.p99 : 0; }));
    note(
        fmt::format(": stopped a worker for {:.1f} s: {} connections went to it later than 0.2 s after that; p99 of those served "
                    "by others {} ms, {} times what it is without the stop",
                    last.hang->stopped_s, sent, in_short(p99), in_short(ratio)));
  }
  const auto worst = [&](const Figure& figure) { return std::ranges::max(each(runs, figure)); };
  std::vector<std::string> signs;
  const double late_ms = worst([](const RunResult& run) { return run.generator.late_p99_ms; });
  if (late_ms > kLateMs) signs.push_back(fmt::format("the generator fell behind by {} ms (p99)", in_short(late_ms)));
  const double cpu = worst([](const RunResult& run) { return run.generator.cpu; });
  if (cpu > kGeneratorCpuMax)
    signs.push_back(fmt::format("the generator used {:.0f} % of a CPU: it may be the limit, not the server", 100 * cpu));
  const double stall_ms = worst([](const RunResult& run) { return run.generator.late_max_ms; });
  if (late_ms <= kLateMs && stall_ms > kStallMs)
    signs.push_back(fmt::format("the generator stood still for {} ms", in_short(stall_ms)));
  const double error_us = worst([](const RunResult& run) { return run.service_error_us.mean; });
  if (error_us > kServiceErrorMax * 1e3 * scenario.mean_service_ms())
    signs.push_back(fmt::format("service took {:.0f} us too long", error_us));
  const double others = worst([](const RunResult& run) { return run.others_cpu; });
  if (others > kOthersMax) signs.push_back(fmt::format("other programs took {:.0f} % of the CPUs", 100 * others));
  if (!signs.empty()) note(fmt::format(": busy machine: {}", fmt::join(signs, ", ")));
  return notes;
}

/// Each policy's measure as a median with its interval, for more than one repeat.
std::string intervals(std::span<const RunResult> results) {
  const bool by_latency = judged_by_latency(results.front());
  std::vector<std::string> parts;
  double confidence = 1;
  for (const auto& policy : by_policy(results)) {
    const Spread spread =
        spread_of(policy.each([&](const RunResult& run) { return by_latency ? p99_over_ideal(run) : run.throughput_per_s; }));
    parts.push_back(
        fmt::format("{} {} ({}..{})", policy.policy, in_short(spread.median), in_short(spread.low), in_short(spread.high)));
    confidence = std::min(confidence, spread.confidence);
  }
  return wrap(fmt::format("{}, median and the range that holds it with {:.0f} %: {}",
                          by_latency ? "p99/ideal" : std::string(short_unit_of(results.front().scenario)) + "/s", 100 * confidence,
                          fmt::join(parts, ", ")),
              "  ");
}

}  // namespace

std::string report_scenario(const Scenario& scenario, const Options& options, std::span<const RunResult> results, size_t columns) {
  if (scenario.harm != Harm::none) return report_faults(scenario, options, results);
  std::vector<std::pair<std::string, Runs>> policies;
  unsigned repeats = 0;
  for (const auto& run : results) {
    const auto known = std::ranges::find(policies, run.policy, &std::pair<std::string, Runs>::first);
    (known == policies.end() ? policies.emplace_back(run.policy, Runs{}) : *known).second.push_back(&run);
    repeats = std::max(repeats, run.repeat);
  }
  if (results.empty()) return fmt::format("{}: nothing measured\n", scenario.name);
  const bool repeated = repeats > 1;
  if (scenario.steps > 0) {
    std::string text = heading(scenario, options, results.front(), repeats);
    text += ramp_table(scenario, options.utilization_of(scenario), by_policy(results));
    for (const auto& note : notes_on_results(scenario, results)) text += wrap("! " + note, "    ");
    return text;
  }
  const Table table = scenario.load == Load::open ? open_table(scenario, results, policies, repeated)
                                                  : closed_table(scenario, results, policies, repeated);
  std::string text = heading(scenario, options, results.front(), repeats) + table.to_string(columns);
  if (repeated) text += intervals(results);
  for (const auto& [policy, runs] : policies)
    if (const auto& version = runs.back()->peer_version; !version.empty())
      text += wrap(fmt::format("  {} is {}", policy, version), "    ");
  for (const auto& note : notes_on_results(scenario, results)) text += wrap("! " + note, "    ");
  return text;
}

std::vector<std::string> notes_on_results(const Scenario& scenario, std::span<const RunResult> results) {
  std::vector<std::string> notes;
  for (const auto& policy : by_policy(results))
    for (auto& note : notes_on(scenario, policy.policy, policy.runs)) notes.push_back(std::move(note));
  return notes;
}

}  // namespace lbbench
