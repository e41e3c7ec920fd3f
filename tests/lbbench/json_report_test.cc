// SPDX-License-Identifier: MIT
#include "json_report.hh"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "sample.hh"

namespace lbbench {
namespace {

std::set<std::string> keys(const nlohmann::json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : object.items()) names.insert(name);
  return names;
}

using Names = std::set<std::string>;
const Names kLatency{"mean", "p50", "p90", "p99", "p99_9", "p99_99", "max"};

TEST(JsonReport, has_the_fields_of_its_schema) {
  const std::vector<RunResult> runs{sample_open_run("shared", 1, 14, 13)};
  const auto json = nlohmann::json::parse(json_report(Host{}, Options{}, runs));
  EXPECT_EQ(keys(json), (Names{"schema", "host", "command", "results", "summary"}));
  EXPECT_EQ(json["schema"], 2);
  ASSERT_EQ(json["results"].size(), 1U);
  const auto& run = json["results"][0];
  EXPECT_EQ(keys(run), (Names{"scenario", "policy", "effective", "fallback", "workers", "utilization", "seed", "repeat", "offered",
                              "completed", "lost", "throughput_per_s", "latency_ms", "latency_histogram", "ideal_ms",
                              "ideal_histogram", "share", "cpu_us_per_connection", "extra"}));
  EXPECT_EQ(keys(run["lost"]), (Names{"refused", "reset", "timeout"}));
  EXPECT_EQ(keys(run["latency_ms"]), kLatency);
  EXPECT_EQ(keys(run["ideal_ms"]), kLatency);
  EXPECT_EQ(keys(run["share"]), (Names{"per_worker", "max_over_mean", "stddev"}));
  EXPECT_EQ(keys(run["cpu_us_per_connection"]), (Names{"workers", "primary", "generator"}));
  EXPECT_DOUBLE_EQ(run["latency_ms"]["p99"].get<double>(), 14);
}

TEST(JsonReport, a_closed_loop_has_no_ideal) {
  const std::vector<RunResult> runs{sample_run("connect", "shared", 1, 1)};
  const auto json = nlohmann::json::parse(json_report(Host{}, Options{}, runs));
  EXPECT_TRUE(json["results"][0]["ideal_ms"].is_null());
  EXPECT_TRUE(json["results"][0]["utilization"].is_null());
}

TEST(JsonReport, a_peer_has_its_version_and_liblb_has_none) {
  auto nginx = sample_run("connect", "nginx", 1, 1);
  nginx.peer_version = "nginx/1.22.1";
  nginx.http = true;
  nginx.answer_bytes = 151;
  const std::vector<RunResult> runs{nginx, sample_run("connect", "shared", 1, 1)};
  const auto json = nlohmann::json::parse(json_report(Host{}, Options{}, runs));
  EXPECT_EQ(json["results"][0]["extra"]["peer_version"], "nginx/1.22.1");
  EXPECT_EQ(json["results"][0]["extra"]["http"]["answer_bytes"], 151);
  EXPECT_FALSE(json["results"][1]["extra"].contains("peer_version"));
  EXPECT_FALSE(json["results"][1]["extra"].contains("http"));
}

TEST(JsonReport, a_ramp_has_its_steps_in_order) {
  auto run = sample_run("mixed", "shared", 1, 1);
  run.ramp.resize(2);
  run.ramp[0].offered_per_s = 100;
  run.ramp[0].latency.p99 = 2;
  run.ramp[1].offered_per_s = 200;
  const auto json = nlohmann::json::parse(json_report(Host{}, Options{}, std::vector{run}));
  const auto& steps = json["results"][0]["extra"]["ramp"];
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_EQ(keys(steps[0]), (Names{"offered_per_s", "throughput_per_s", "latency_ms", "ideal_ms"}));
  EXPECT_DOUBLE_EQ(steps[0]["latency_ms"]["p99"].get<double>(), 2);
  EXPECT_DOUBLE_EQ(steps[1]["offered_per_s"].get<double>(), 200);
}

TEST(JsonReport, of_nothing_measured_is_still_valid) {
  const auto json = nlohmann::json::parse(json_report(Host::describe(), Options{}, {}));
  EXPECT_TRUE(json["results"].empty());
  EXPECT_GT(json["host"]["cpus"].get<int>(), 0);
}

}  // namespace
}  // namespace lbbench
