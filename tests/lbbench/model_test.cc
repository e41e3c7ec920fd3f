// SPDX-License-Identifier: MIT
#include "model.hh"

#include <gtest/gtest.h>

#include <cmath>

#include "sample.hh"
#include "scenario.hh"

namespace lbbench {
namespace {

const ModelBackend kFree{.policy = "free", .limit = ""};

TEST(ModelTest, cores_saturate_or_the_serial_part_does) {
  EXPECT_DOUBLE_EQ(saturation_per_s(kFree, 8, 1000), 8'000);
  const ModelBackend primary{.policy = "round-robin", .serial_us = 10, .limit = "the primary"};
  EXPECT_NEAR(saturation_per_s(primary, 4, 990), 4'000, 1e-6);      // the workers' cores
  EXPECT_NEAR(saturation_per_s(primary, 256, 990), 100'000, 1e-6);  // 1 / 10 us
}

TEST(ModelTest, a_connection_without_a_wait_takes_its_costs) {
  const ModelBackend backend{.policy = "x", .serial_us = 100, .parallel_us = 200, .limit = ""};
  Scenario scenario = *find_scenario("mixed");
  scenario.services = {{1.0, Law::fixed, 1.0}};
  const auto latency = predict(backend, scenario, 64, 100, 1);  // nearly idle
  ASSERT_TRUE(latency);
  EXPECT_NEAR(latency->p50, 1.3, 1e-6);
}

TEST(ModelTest, the_wait_of_one_worker_is_that_of_the_textbook) {
  // M/M/1 at 0.5: mean time in the system is S / (1 - rho) = 2 ms, and exponential: p99 is 2 ms * ln 100.
  Scenario scenario = *find_scenario("exponential");
  const auto latency = predict(kFree, scenario, 1, 500, 1);
  ASSERT_TRUE(latency);
  EXPECT_NEAR(latency->mean, 2, 0.1);
  EXPECT_NEAR(latency->p99, 2 * std::log(100), 0.7);
}

TEST(ModelTest, blind_workers_wait_as_each_its_own_queue) {
  Scenario scenario = *find_scenario("exponential");
  const ModelBackend blind{.policy = "hash", .one_queue = false, .limit = ""};
  const auto own_queues = predict(blind, scenario, 8, 4'000, 1);
  const auto one_queue = predict(kFree, scenario, 8, 4'000, 1);
  ASSERT_TRUE(own_queues && one_queue);
  EXPECT_NEAR(own_queues->mean, 2, 0.15);
  EXPECT_LT(one_queue->mean, 1.1);
}

TEST(ModelTest, above_saturation_there_is_no_latency) {
  EXPECT_FALSE(predict(kFree, *find_scenario("exponential"), 4, 4'001, 1));
  EXPECT_TRUE(predict(kFree, *find_scenario("exponential"), 4, 3'900, 1));
}

TEST(ModelTest, costs_of_a_file_are_measured_and_the_others_assumed) {
  Document document;
  document.results = {sample_run("connect", "reuseport", 1, 1), sample_run("connect", "round-robin", 1, 1)};
  document.results[0].cpu.workers_us = 31;
  document.results[1].cpu.primary_us = 9;
  auto costs = ModelCosts::assumed();
  costs.take(document, "runs.json");
  EXPECT_DOUBLE_EQ(costs.worker_us.value, 31);
  EXPECT_DOUBLE_EQ(costs.primary_us.value, 9);
  EXPECT_TRUE(costs.primary_us.measured);
  EXPECT_FALSE(costs.pick_ns.measured);
  const auto text = model_report({}, costs, nullptr);
  EXPECT_NE(text.find("primary 9 us (measured: runs.json"), std::string::npos) << text;
  EXPECT_NE(text.find("(assumed: "), std::string::npos) << text;
}

TEST(ModelTest, is_held_against_what_was_measured) {
  Document document;
  document.results = {sample_open_run("shared", 1, 13, 12)};
  const auto checks = check_model(document, ModelCosts::assumed());
  ASSERT_EQ(checks.size(), 2U);
  EXPECT_EQ(checks[1].figure, "p99 ms");
  EXPECT_DOUBLE_EQ(checks[1].measured, 13);
  EXPECT_NEAR(checks[1].predicted, 10.5, 1.0);  // what the ideal is for this load
}

}  // namespace
}  // namespace lbbench
