// SPDX-License-Identifier: MIT
#include "csv_report.hh"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <functional>

namespace lbbench {
namespace {

struct Field {
  std::string name;
  std::function<std::string(const RunResult&)> text;
};

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + '"';
}

template <class T>
std::string number(const std::optional<T>& value) {
  return value ? fmt::format("{}", *value) : "";
}

void add_latency(std::vector<Field>& fields, const std::string& prefix, std::function<const Latency*(const RunResult&)> of) {
  const std::pair<const char*, double Latency::*> members[] = {
      {"mean", &Latency::mean},   {"p50", &Latency::p50},       {"p90", &Latency::p90}, {"p99", &Latency::p99},
      {"p99_9", &Latency::p99_9}, {"p99_99", &Latency::p99_99}, {"max", &Latency::max}};
  for (const auto& [name, member] : members) {
    fields.push_back({prefix + name + "_ms", [of, member = member](const RunResult& run) {
                        const Latency* latency = of(run);
                        return latency != nullptr ? fmt::format("{:.6g}", latency->*member) : "";
                      }});
  }
}

std::vector<Field> all_fields() {
  std::vector<Field> fields{
      {"scenario", [](const RunResult& run) { return run.scenario; }},
      {"policy", [](const RunResult& run) { return run.policy; }},
      {"effective", [](const RunResult& run) { return run.effective; }},
      {"fallback", [](const RunResult& run) { return run.fallback; }},
      {"workers", [](const RunResult& run) { return std::to_string(run.workers); }},
      {"utilization", [](const RunResult& run) { return number(run.utilization); }},
      {"seed", [](const RunResult& run) { return std::to_string(run.seed); }},
      {"repeat", [](const RunResult& run) { return std::to_string(run.repeat); }},
      {"offered", [](const RunResult& run) { return std::to_string(run.offered); }},
      {"completed", [](const RunResult& run) { return std::to_string(run.completed); }},
      {"refused", [](const RunResult& run) { return std::to_string(run.lost.refused); }},
      {"reset", [](const RunResult& run) { return std::to_string(run.lost.reset); }},
      {"timeout", [](const RunResult& run) { return std::to_string(run.lost.timeout); }},
      {"throughput_per_s", [](const RunResult& run) { return fmt::format("{:.6g}", run.throughput_per_s); }},
  };
  add_latency(fields, "", [](const RunResult& run) { return &run.latency; });
  add_latency(fields, "ideal_", [](const RunResult& run) { return run.ideal ? &*run.ideal : nullptr; });
  const std::vector<Field> rest{
      {"share_max_over_mean", [](const RunResult& run) { return fmt::format("{:.6g}", run.share.max_over_mean); }},
      {"share_stddev", [](const RunResult& run) { return fmt::format("{:.6g}", run.share.stddev); }},
      {"share_per_worker", [](const RunResult& run) { return fmt::format("{}", fmt::join(run.share.per_worker, " ")); }},
      {"workers_cpu_us", [](const RunResult& run) { return fmt::format("{:.6g}", run.cpu.workers_us); }},
      {"primary_cpu_us", [](const RunResult& run) { return fmt::format("{:.6g}", run.cpu.primary_us); }},
      {"generator_cpu_us", [](const RunResult& run) { return fmt::format("{:.6g}", run.cpu.generator_us); }},
      {"generator_late_p99_ms", [](const RunResult& run) { return fmt::format("{:.6g}", run.generator.late_p99_ms); }},
      {"others_cpu", [](const RunResult& run) { return fmt::format("{:.6g}", run.others_cpu); }},
      {"used_per_burst", [](const RunResult& run) { return number(run.used_per_burst); }},
  };
  fields.insert(fields.end(), rest.begin(), rest.end());
  return fields;
}

}  // namespace

std::string csv_report(std::span<const RunResult> results) {
  const auto fields = all_fields();
  std::string text;
  const auto line = [&](const std::function<std::string(const Field&)>& of) {
    for (const auto& field : fields) text += (&field == &fields.front() ? "" : ",") + quoted(of(field));
    text += "\r\n";
  };
  line([](const Field& field) { return field.name; });
  for (const auto& run : results) line([&](const Field& field) { return field.text(run); });
  return text;
}

}  // namespace lbbench
