// SPDX-License-Identifier: MIT
#include "json_report.hh"

#include <nlohmann/json.hpp>

namespace lbbench {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Host& host) {
  return {{"kernel", host.kernel}, {"machine", host.machine},       {"cpu_model", host.cpu_model},
          {"cpus", host.cpus},     {"memory_gib", host.memory_gib}, {"liblb", host.liblb}};
}

Json to_json(const Latency& ms) {
  return {{"mean", ms.mean}, {"p50", ms.p50}, {"p90", ms.p90}, {"p99", ms.p99}, {"p99_9", ms.p99_9}, {"max", ms.max}};
}

Json extra_of(const RunResult& run, const Options& options) {
  Json extra{{"rung", run.rung},
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
                             {"latency_ms", to_json(step.latency)}});
  if (options.window) extra["window"] = *options.window;
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
      {"ideal_ms", run.ideal ? to_json(*run.ideal) : Json(nullptr)},
      {"share", {{"per_worker", run.share.per_worker}, {"max_over_mean", run.share.max_over_mean}, {"stddev", run.share.stddev}}},
      {"cpu_us_per_connection", {{"workers", run.cpu.workers_us}, {"primary", run.cpu.primary_us}}},
      {"extra", extra_of(run, options)}};
}

}  // namespace

std::string json_report(const Host& host, const Options& options, std::span<const RunResult> results) {
  Json list = Json::array();
  for (const auto& run : results) list.push_back(to_json(run, options));
  return Json{{"schema", 1}, {"host", to_json(host)}, {"results", std::move(list)}}.dump(2) + '\n';
}

}  // namespace lbbench
