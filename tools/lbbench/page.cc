// SPDX-License-Identifier: MIT
#include "page.hh"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "advice.hh"
#include "report.hh"
#include "scenario.hh"
#include "spread.hh"

namespace lbbench {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kNinesMax = 4;  // the curve ends at 99.99 %
constexpr double kNinesStep = 0.04;
constexpr const char* kDataGoesHere = "/* data */";

double percent_of(double nines) { return 100 * (1 - std::pow(10, -nines)); }

/// Points [nines, ms]: what part of the connections took no longer, 1 being 90 %, 2 99 % and so on, as far as there are connections.
Json curve_of(const Histogram& histogram) {
  Json points = Json::array();
  const double last = std::min(kNinesMax, std::log10(static_cast<double>(std::max<uint64_t>(histogram.total(), 1))));
  for (int i = 1; i * kNinesStep <= last + 1e-9; ++i)
    points.push_back({i * kNinesStep, histogram.percentile_ms(percent_of(i * kNinesStep))});
  return points;
}

/// Of a file without histograms: through the percentiles that it has.
Json curve_of(const std::vector<const Latency*>& repeats) {
  Json points = Json::array();
  const std::pair<double, double Latency::*> members[] = {
      {std::log10(2.0), &Latency::p50}, {1, &Latency::p90}, {2, &Latency::p99}, {3, &Latency::p99_9}};
  for (const auto& [nines, member] : members) {
    std::vector<double> values;
    for (const auto* latency : repeats) values.push_back(latency->*member);
    points.push_back({nines, median(std::move(values))});
  }
  return points;
}

Json latencies_of(const PolicyRuns& policy, const std::function<const Latency&(const RunResult&)>& of, const Histogram& merged) {
  Json json;
  const std::pair<const char*, double Latency::*> members[] = {{"mean", &Latency::mean},   {"p50", &Latency::p50},
                                                               {"p90", &Latency::p90},     {"p99", &Latency::p99},
                                                               {"p99_9", &Latency::p99_9}, {"max", &Latency::max}};
  for (const auto& [name, member] : members)
    json[name] = median(policy.each([&of, member = member](const RunResult& run) { return of(run).*member; }));
  // Of all repeats together, which are enough connections for it sooner than one is.
  json["p99_99"] = merged.total() >= 10'000 ? Json(merged.percentile_ms(99.99)) : Json(nullptr);
  return json;
}

Json to_json(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min},   {"max", spread.max},
          {"low", spread.low},       {"high", spread.high}, {"confidence", spread.confidence}};
}

/// The repeats' ramps may end at different steps: those that all have reached, medians over the repeats.
Json ramp_of(const PolicyRuns& policy) {
  size_t steps = SIZE_MAX;
  for (const auto* run : policy.runs) steps = std::min(steps, run->ramp.size());
  Json points = Json::array();
  for (size_t i = 0; i < steps && steps != SIZE_MAX; ++i) {
    const auto over = [&](auto figure) { return median(policy.each([&](const RunResult& run) { return figure(run.ramp[i]); })); };
    points.push_back({{"offered", over([](const RampStep& step) { return step.offered_per_s; })},
                      {"throughput", over([](const RampStep& step) { return step.throughput_per_s; })},
                      {"p99", over([](const RampStep& step) { return step.latency.p99; })}});
  }
  return points;
}

Json contender_json(const PolicyRuns& policy, bool by_latency) {
  const RunResult& last = *policy.runs.back();
  Histogram merged;
  std::vector<const Latency*> latencies;
  Json shares = Json::array();
  uint64_t lost = 0;
  for (const auto* run : policy.runs) {
    merged.merge(run->histogram);
    latencies.push_back(&run->latency);
    lost += run->lost.total();
  }
  const auto over = [&](auto figure) { return median(policy.each(figure)); };
  const auto throughput = [](const RunResult& run) { return run.throughput_per_s; };
  auto per_worker = last.share.per_worker;  // of the last repeat: a worker has no counterpart in another
  std::ranges::sort(per_worker, std::greater<>());
  return {{"name", policy.policy},
          {"version", last.peer_version},
          {"effective", last.effective},
          {"fallback", last.fallback},
          {"measure",
           to_json(spread_of(policy.each(by_latency ? p99_over_ideal : std::function<double(const RunResult&)>(throughput))))},
          {"latency", latencies_of(
                          policy, [](const RunResult& run) -> const Latency& { return run.latency; }, merged)},
          {"throughput", over(throughput)},
          {"curve", merged.empty() ? curve_of(latencies) : curve_of(merged)},
          {"workers", per_worker},
          {"share", over([](const RunResult& run) { return run.share.max_over_mean; })},
          {"workers_us", over([](const RunResult& run) { return run.cpu.workers_us; })},
          {"primary_us", over([](const RunResult& run) { return run.cpu.primary_us; })},
          {"lost", lost},
          {"ramp", ramp_of(policy)}};
}

Json ideal_json(std::span<const RunResult> results) {
  if (!results.front().ideal) return nullptr;
  const auto policies = by_policy(results);
  const auto& any = policies.front();  // every policy has the same arrivals
  Histogram merged;
  std::vector<const Latency*> latencies;
  for (const auto* run : any.runs) {
    merged.merge(run->ideal_histogram);
    latencies.push_back(&run->ideal.value());
  }
  return {{"latency", latencies_of(
                          any, [](const RunResult& run) -> const Latency& { return *run.ideal; }, merged)},
          {"curve", merged.empty() ? curve_of(latencies) : curve_of(merged)}};
}

Json scenario_json(const Document& document, const std::string& name, const Verdict& verdict) {
  const auto results = document.results_of(name);
  const Scenario* scenario = find_scenario(name);
  const Options options = document.options_of(name);
  const RunResult& any = results.front();
  Json contenders = Json::array();
  for (const auto& policy : by_policy(results)) contenders.push_back(contender_json(policy, verdict.by_latency));
  std::string setup = fmt::format("{} workers", any.workers);
  if (any.utilization) setup += fmt::format(", utilization {:g}, service by {}", *any.utilization, to_string(options.work));
  if (any.http) setup += ", HTTP";
  setup += fmt::format(", {} {}", by_policy(results).front().runs.size(),
                       by_policy(results).front().runs.size() == 1 ? "repeat" : "repeats");
  if (options.duration_s) setup += fmt::format(" of {:g} s", *options.duration_s);
  return {{"name", name},
          {"unit", unit_of(name)},
          {"pain", scenario != nullptr ? scenario->pain : ""},
          {"sentence", scenario != nullptr ? scenario->sentence : ""},
          {"setup", setup},
          {"by_latency", verdict.by_latency},
          {"best", verdict.best},
          {"any_will_do", verdict.any_will_do()},
          {"certainty", to_string(verdict.certainty)},
          {"contenders", contenders},
          {"ideal", ideal_json(results)},
          {"notes", scenario != nullptr ? notes_on_results(*scenario, results) : std::vector<std::string>{}}};
}

Json to_json(const Toll& toll) {
  return {{"name", toll.policy},
          {"faults", toll.faults},
          {"done", toll.done},
          {"begun", toll.begun},
          {"completed", toll.completed},
          {"left", toll.left},
          {"with_worker", toll.with_worker},
          {"in_accept", toll.in_accept},
          {"lost", {{"refused", toll.lost.refused}, {"reset", toll.lost.reset}, {"timeout", toll.lost.timeout}}},
          {"max_ms", toll.max_ms},
          {"trouble", toll.trouble}};
}

Json harms_json(const Document& document) {
  Json harms = Json::array();
  const auto tolls = tolls_of(document.results);
  for (const auto& name : document.scenarios()) {
    if (!is_harmed(name)) continue;
    const Scenario* scenario = find_scenario(name);
    Json contenders = Json::array();
    for (const auto& toll : tolls)
      if (toll.scenario == name) contenders.push_back(to_json(toll));
    const auto results = document.results_of(name);
    harms.push_back({{"name", name},
                     {"sentence", scenario->sentence},
                     {"pain", scenario->pain},
                     {"setup", fmt::format("{} {} workers, {} {}", results.front().workers,
                                           to_string(document.options_of(name).model_of(*scenario)), results.back().repeat,
                                           results.back().repeat == 1 ? "repeat" : "repeats")},
                     {"contenders", contenders}});
  }
  return harms;
}

}  // namespace

std::string page_data(const Document& document) {
  const Advice advice = advise(document.results);
  Json scenarios = Json::array();
  for (const auto& verdict : verdicts_of(document.results)) scenarios.push_back(scenario_json(document, verdict.scenario, verdict));
  std::vector<std::string> names;
  std::map<std::string, std::string> versions;
  for (const auto& run : document.results) {
    if (std::ranges::find(names, run.policy) == names.end()) names.push_back(run.policy);
    if (!run.peer_version.empty()) versions[run.policy] = run.peer_version;
  }
  return Json{{"headline", advice.headline},
              {"advice", advice.sentences},
              {"machine", document.host.to_string()},
              {"command", document.command},
              {"seed", document.results.empty() ? 0 : document.results.front().seed},
              {"contenders", names},
              {"versions", versions},
              {"timer", document.host.timer_text()},
              {"scenarios", scenarios},
              {"harms", harms_json(document)}}
      .dump();
}

std::string html_report(const Document& document) {
  std::string page(page_template().value());
  std::string data = page_data(document);
  // Inside a script element nothing may look like its end.
  for (size_t at = 0; (at = data.find('<', at)) != std::string::npos;) data.replace(at, 1, "\\u003c");
  return page.replace(page.find(kDataGoesHere), std::string_view(kDataGoesHere).size(), data);
}

}  // namespace lbbench
