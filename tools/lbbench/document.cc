// SPDX-License-Identifier: MIT
#include "document.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "scenario.hh"

namespace lbbench {
namespace {

using Json = nlohmann::json;

Latency latency_of(const Json& ms) {
  return {.mean = ms.at("mean"),
          .p50 = ms.at("p50"),
          .p90 = ms.at("p90"),
          .p99 = ms.at("p99"),
          .p99_9 = ms.at("p99_9"),
          .p99_99 = ms.value("p99_99", 0.0),
          .max = ms.at("max")};
}

Histogram histogram_of(const Json& run, const char* name) {
  const auto found = run.find(name);
  if (found == run.end() || found->is_null()) return {};
  if (found->at("per_octave") != Histogram::kPerOctave) return {};  // another build's buckets: do without
  const size_t first = found->at("first");
  std::vector<uint64_t> counts = found->at("counts");
  if (first + counts.size() > Histogram::kBucketsMax) throw std::out_of_range(fmt::format("{}: too many buckets", name));
  return {first, std::move(counts)};
}

/// null and missing are the same.
template <class T>
std::optional<T> optional_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return {};
  return found->get<T>();
}

HangResult hang_of(const Json& hang) {
  return {.worker = hang.at("worker"),
          .stopped_s = hang.at("stopped_s"),
          .sent_after_notice = hang.at("sent_after_0_2_s"),
          .without = latency_of(hang.at("without_ms")),
          .others = latency_of(hang.at("others_ms"))};
}

FaultResult faults_of(const Json& faults) {
  FaultResult result{.done = {},
                     .begun = faults.at("begun"),
                     .left = faults.at("left"),
                     .with_worker = faults.at("lost_with_worker"),
                     .in_accept = faults.at("lost_in_accept"),
                     .taken_twice = faults.at("taken_twice"),
                     .dropped = faults.at("dropped"),
                     .workers_ever = faults.at("workers_ever"),
                     .rolls_failed = faults.at("rolls_failed"),
                     .changes_failed = faults.at("changes_failed"),
                     .left_over = faults.at("processes_left"),
                     .descriptors = faults.at("primary_descriptors"),
                     .memory_kib = faults.at("primary_memory_kib"),
                     .trouble = faults.at("trouble"),
                     .seconds = faults.value("seconds", 0.0)};
  for (const auto& [name, count] : faults.at("done").items()) result.done.emplace_back(name, count);
  result.descriptors.resize(3);
  result.memory_kib.resize(3);
  return result;
}

RunResult result_of(const Json& json) {
  RunResult run;
  run.scenario = json.at("scenario");
  run.policy = json.at("policy");
  run.effective = json.at("effective");
  run.fallback = json.at("fallback");
  run.workers = json.at("workers");
  run.utilization = optional_of<double>(json, "utilization");
  run.seed = json.at("seed");
  run.repeat = json.at("repeat");
  run.offered = json.at("offered");
  run.completed = json.at("completed");
  const Json& lost = json.at("lost");
  run.lost = {.refused = lost.at("refused"), .reset = lost.at("reset"), .timeout = lost.at("timeout")};
  run.throughput_per_s = json.at("throughput_per_s");
  run.latency = latency_of(json.at("latency_ms"));
  run.histogram = histogram_of(json, "latency_histogram");
  if (const auto ideal = optional_of<Json>(json, "ideal_ms")) run.ideal = latency_of(*ideal);
  run.ideal_histogram = histogram_of(json, "ideal_histogram");
  const Json& share = json.at("share");
  run.share = {.per_worker = share.at("per_worker"), .max_over_mean = share.at("max_over_mean"), .stddev = share.at("stddev")};
  const Json& cpu = json.at("cpu_us_per_connection");
  run.cpu = {.workers_us = cpu.at("workers"), .primary_us = cpu.at("primary"), .generator_us = cpu.value("generator", 0.0)};
  const Json extra = json.value("extra", Json::object());
  run.rung = extra.value("rung", "");
  run.others_cpu = extra.value("others_cpu", 0.0);
  run.crashed_workers = extra.value("crashed_workers", 0U);
  run.used_per_burst = optional_of<double>(extra, "used_per_burst");
  if (const auto error = optional_of<Json>(extra, "service_error_us"))
    run.service_error_us = {.median = error->at("median"), .mean = error->at("mean")};
  if (const auto generator = optional_of<Json>(extra, "generator"))
    run.generator = {.late_p99_ms = generator->at("late_p99_ms"),
                     .late_max_ms = generator->at("late_max_ms"),
                     .not_begun = generator->at("not_begun"),
                     .cpu = generator->value("cpu", 0.0)};
  run.peer_version = extra.value("peer_version", "");
  if (const auto http = optional_of<Json>(extra, "http")) {
    run.http = true;
    run.answer_bytes = http->at("answer_bytes");
  }
  for (const auto& step : extra.value("ramp", Json::array()))
    run.ramp.push_back({.offered_per_s = step.at("offered_per_s"),
                        .throughput_per_s = step.at("throughput_per_s"),
                        .latency = latency_of(step.at("latency_ms")),
                        .ideal = latency_of(step.at("ideal_ms"))});
  if (const auto hang = optional_of<Json>(extra, "hang")) run.hang = hang_of(*hang);
  if (const auto faults = optional_of<Json>(extra, "faults")) run.faults = faults_of(*faults);
  return run;
}

Host host_of(const Json& json) {
  Host host;
  host.kernel = json.value("kernel", "");
  host.machine = json.value("machine", "");
  host.cpu_model = json.value("cpu_model", "");
  host.cpus = json.value("cpus", 0U);
  host.memory_gib = json.value("memory_gib", 0.0);
  host.liblb = json.value("liblb", "");
  if (const auto timer = optional_of<Json>(json, "timer_error_ns"))
    host.timer = TimerError{.median_ns = timer->at("median"),
                            .residual_median_ns = timer->at("residual_median"),
                            .residual_p90_ns = timer->at("residual_p90")};
  return host;
}

}  // namespace

std::vector<std::string> Document::scenarios() const {
  std::vector<std::string> names;
  for (const auto& run : results)
    if (std::ranges::find(names, run.scenario) == names.end()) names.push_back(run.scenario);
  return names;
}

std::vector<RunResult> Document::results_of(const std::string& scenario) const {
  std::vector<RunResult> chosen;
  std::ranges::copy_if(results, std::back_inserter(chosen), [&](const RunResult& run) { return run.scenario == scenario; });
  return chosen;
}

Options Document::options_of(const std::string& scenario) const {
  Options options;
  options.command = Command::run;
  const Json json = Json::parse(text);
  for (const auto& run : json.at("results")) {
    if (run.at("scenario") != scenario) continue;
    const Json extra = run.value("extra", Json::object());
    options.duration_s = optional_of<double>(extra, "duration_s");
    options.work = extra.value("work", "sleep") == "cpu" ? Work::cpu : Work::sleep;
    options.worker_model = extra.value("worker_model", "serial") == "serial" ? WorkerModel::serial : WorkerModel::event_loop;
    options.workers = run.at("workers").get<unsigned>();
    options.utilization = optional_of<double>(run, "utilization");
    options.seed = run.at("seed").get<uint64_t>() - (run.at("repeat").get<unsigned>() - 1);
    break;
  }
  return options;
}

std::variant<Document, std::string> read_document(std::string text) {
  Document document;
  try {
    const Json json = Json::parse(text);
    if (!json.is_object() || !json.contains("schema") || !json.contains("results"))
      return "is JSON, but not what lbbench writes (no \"schema\" and \"results\")";
    if (const int64_t schema = json.at("schema"); schema < kSchemaOldest || schema > kSchema)
      return fmt::format("has schema {}; this lbbench reads {} to {}", schema, kSchemaOldest, kSchema);
    document.schema = json.at("schema");
    document.host = host_of(json.value("host", Json::object()));
    document.command = json.value("command", "");
    for (const auto& run : json.at("results")) document.results.push_back(result_of(run));
  } catch (const Json::parse_error& error) {
    return fmt::format("is not JSON: {}", error.what());
  } catch (const std::exception& error) {
    return fmt::format("is not what lbbench writes: {}", error.what());
  }
  document.text = std::move(text);
  return document;
}

std::variant<Document, std::string> read_document_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || file.bad()) return fmt::format("cannot read \"{}\": {}", path, std::strerror(errno));
  auto document = read_document(std::move(text).str());
  if (auto* wrong = std::get_if<std::string>(&document)) return fmt::format("\"{}\" {}", path, *wrong);
  return document;
}

}  // namespace lbbench
