// SPDX-License-Identifier: MIT
#include "json_report.hh"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "document.hh"
#include "spread.hh"

namespace lbbench {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Host& host) {
  Json json{{"kernel", host.kernel}, {"machine", host.machine},       {"cpu_model", host.cpu_model},
            {"cpus", host.cpus},     {"memory_gib", host.memory_gib}, {"liblb", host.liblb}};
  if (const auto& timer = host.timer)
    json["timer_error_ns"] = {
        {"median", timer->median_ns}, {"residual_median", timer->residual_median_ns}, {"residual_p90", timer->residual_p90_ns}};
  return json;
}

Json to_json(const Latency& ms) {
  return {{"mean", ms.mean},   {"p50", ms.p50},       {"p90", ms.p90}, {"p99", ms.p99},
          {"p99_9", ms.p99_9}, {"p99_99", ms.p99_99}, {"max", ms.max}};
}

Json to_json(const Histogram& histogram) {
  if (histogram.empty()) return nullptr;
  return {{"per_octave", Histogram::kPerOctave}, {"first", histogram.first()}, {"counts", histogram.counts()}};
}

Json to_json(const FaultResult& faults) {
  Json done = Json::object();
  for (const auto& [name, count] : faults.done) done[name] = count;
  return {{"done", done},
          {"seconds", faults.seconds},
          {"begun", faults.begun},
          {"left", faults.left},
          {"lost_with_worker", faults.with_worker},
          {"lost_in_accept", faults.in_accept},
          {"taken_twice", faults.taken_twice},
          {"dropped", faults.dropped},
          {"workers_ever", faults.workers_ever},
          {"upgrades_failed", faults.upgrades_failed},
          {"rolls_failed", faults.rolls_failed},
          {"changes_failed", faults.changes_failed},
          {"processes_left", faults.left_over},
          {"primary_descriptors", faults.descriptors},
          {"primary_memory_kib", faults.memory_kib},
          {"trouble", faults.trouble}};
}

Json extra_of(const RunResult& run, const Options& options) {
  Json extra{{"rung", run.rung},
             {"duration_s", options.duration_of(*find_scenario(run.scenario))},
             {"work", to_string(options.work)},
             {"worker_model", to_string(options.model_of(*find_scenario(run.scenario)))},
             {"service_error_us", {{"median", run.service_error_us.median}, {"mean", run.service_error_us.mean}}},
             {"others_cpu", run.others_cpu},
             {"crashed_workers", run.crashed_workers},
             {"generator",
              {{"late_p99_ms", run.generator.late_p99_ms},
               {"late_max_ms", run.generator.late_max_ms},
               {"not_begun", run.generator.not_begun},
               {"cpu", run.generator.cpu}}}};
  if (run.hang)
    extra["hang"] = {{"worker", run.hang->worker},
                     {"stopped_s", run.hang->stopped_s},
                     {"sent_after_0_2_s", run.hang->sent_after_notice},
                     {"others_ms", to_json(run.hang->others)},
                     {"without_ms", to_json(run.hang->without)}};
  if (!run.peer_version.empty()) extra["peer_version"] = run.peer_version;
  if (run.http) extra["http"] = {{"answer_bytes", run.answer_bytes}};
  for (const auto& step : run.ramp)
    extra["ramp"].push_back({{"offered_per_s", step.offered_per_s},
                             {"throughput_per_s", step.throughput_per_s},
                             {"latency_ms", to_json(step.latency)},
                             {"ideal_ms", to_json(step.ideal)}});
  if (run.faults) extra["faults"] = to_json(*run.faults);
  if (options.window) extra["window"] = *options.window;
  if (!options.stealing) extra["stealing"] = false;
  if (run.used_per_burst) extra["used_per_burst"] = *run.used_per_burst;
  return extra;
}

Json to_json(const RunResult& run, const Options& options) {
  return {
      {"scenario", run.scenario},
      {"policy", run.policy},
      {"effective", run.effective},
      {"fallback", run.fallback},
      {"workers", run.workers},
      {"utilization", run.utilization ? Json(*run.utilization) : Json(nullptr)},
      {"seed", run.seed},
      {"repeat", run.repeat},
      {"offered", run.offered},
      {"completed", run.completed},
      {"lost", {{"refused", run.lost.refused}, {"reset", run.lost.reset}, {"timeout", run.lost.timeout}}},
      {"throughput_per_s", run.throughput_per_s},
      {"latency_ms", to_json(run.latency)},
      {"latency_histogram", to_json(run.histogram)},
      {"ideal_ms", run.ideal ? to_json(*run.ideal) : Json(nullptr)},
      {"ideal_histogram", to_json(run.ideal_histogram)},
      {"share", {{"per_worker", run.share.per_worker}, {"max_over_mean", run.share.max_over_mean}, {"stddev", run.share.stddev}}},
      {"cpu_us_per_connection",
       {{"workers", run.cpu.workers_us}, {"primary", run.cpu.primary_us}, {"generator", run.cpu.generator_us}}},
      {"extra", extra_of(run, options)}};
}

Json to_json(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min},   {"max", spread.max},
          {"low", spread.low},       {"high", spread.high}, {"confidence", spread.confidence}};
}

/// Each policy's figures over its repeats.
Json summary_of(std::span<const RunResult> results) {
  Json list = Json::array();
  std::vector<std::string> scenarios;
  for (const auto& run : results)
    if (std::ranges::find(scenarios, run.scenario) == scenarios.end()) scenarios.push_back(run.scenario);
  for (const auto& scenario : scenarios) {
    std::vector<RunResult> chosen;
    std::ranges::copy_if(results, std::back_inserter(chosen), [&](const RunResult& run) { return run.scenario == scenario; });
    const auto policies = by_policy(chosen);
    const auto hash = std::ranges::find(policies, "reuseport:hash", &PolicyRuns::policy);
    for (const auto& policy : policies) {
      const auto over = [&](auto figure) { return to_json(spread_of(policy.each(figure))); };
      const auto throughput = [](const RunResult& run) { return run.throughput_per_s; };
      Json line{{"scenario", scenario},
                {"policy", policy.policy},
                {"repeats", policy.runs.size()},
                {"p50_ms", over([](const RunResult& run) { return run.latency.p50; })},
                {"p99_ms", over([](const RunResult& run) { return run.latency.p99; })},
                {"p99_9_ms", over([](const RunResult& run) { return run.latency.p99_9; })},
                {"throughput_per_s", over(throughput)}};
      if (policy.runs.front()->ideal) line["p99_over_ideal"] = over(p99_over_ideal);
      if (hash != policies.end()) line["throughput_over_hash"] = to_json(spread_of(ratios_by_pair(policy, *hash, throughput)));
      list.push_back(std::move(line));
    }
  }
  return list;
}

/// The elements on a line each: people look at files, and a histogram with each count on its own line is long.
std::string in_lines(const Json& list) {
  std::string text = "[";
  for (const auto& element : list) text += (text.size() > 1 ? ",\n    " : "\n    ") + element.dump();
  return text + (list.empty() ? "]" : "\n  ]");
}

}  // namespace

std::string json_report(const Host& host, const Options& options, std::span<const RunResult> results) {
  Json list = Json::array();
  for (const auto& run : results) list.push_back(to_json(run, options));
  return fmt::format("{{\n  \"schema\": {},\n  \"host\": {},\n  \"command\": {},\n  \"results\": {},\n  \"summary\": {}\n}}\n",
                     kSchema, to_json(host).dump(), Json(options.command_line).dump(), in_lines(list),
                     in_lines(summary_of(results)));
}

}  // namespace lbbench
