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
const Names kLatency{"mean", "p50", "p90", "p99", "p99_9", "max"};

TEST(JsonReport, has_the_fields_of_schema_1) {
  const std::vector<RunResult> runs{sample_open_run("shared", 1, 14, 13)};
  const auto json = nlohmann::json::parse(json_report(Host{}, Options{}, runs));
  EXPECT_EQ(keys(json), (Names{"schema", "host", "results"}));
  EXPECT_EQ(json["schema"], 1);
  ASSERT_EQ(json["results"].size(), 1U);
  const auto& run = json["results"][0];
  EXPECT_EQ(keys(run),
            (Names{"scenario", "policy", "effective", "fallback", "workers", "utilization", "seed", "repeat", "offered",
                   "completed", "lost", "throughput_per_s", "latency_ms", "ideal_ms", "share", "cpu_us_per_connection", "extra"}));
  EXPECT_EQ(keys(run["lost"]), (Names{"refused", "reset", "timeout"}));
  EXPECT_EQ(keys(run["latency_ms"]), kLatency);
  EXPECT_EQ(keys(run["ideal_ms"]), kLatency);
  EXPECT_EQ(keys(run["share"]), (Names{"per_worker", "max_over_mean", "stddev"}));
  EXPECT_EQ(keys(run["cpu_us_per_connection"]), (Names{"workers", "primary"}));
  EXPECT_DOUBLE_EQ(run["latency_ms"]["p99"].get<double>(), 14);
}

TEST(JsonReport, a_closed_loop_has_no_ideal) {
  const std::vector<RunResult> runs{sample_run("connect", "shared", 1, 1)};
  const auto json = nlohmann::json::parse(json_report(Host{}, Options{}, runs));
  EXPECT_TRUE(json["results"][0]["ideal_ms"].is_null());
  EXPECT_TRUE(json["results"][0]["utilization"].is_null());
}

TEST(JsonReport, of_nothing_measured_is_still_valid) {
  const auto json = nlohmann::json::parse(json_report(Host::describe(), Options{}, {}));
  EXPECT_TRUE(json["results"].empty());
  EXPECT_GT(json["host"]["cpus"].get<int>(), 0);
}

}  // namespace
}  // namespace lbbench
