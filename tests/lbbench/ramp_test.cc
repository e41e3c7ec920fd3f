// SPDX-License-Identifier: MIT
#include "ramp.hh"

#include <gtest/gtest.h>

namespace lbbench {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr Period kPeriod{.warm_up_ns = 100 * kMs, .end_ns = 1100 * kMs};  // 4 steps, the first at 100..350, the last at 850..1100
constexpr unsigned kSteps = 4;

Record record(uint64_t at_ms, uint64_t latency_ms, Outcome outcome = Outcome::answered) {
  Record made{};
  made.intended_ns = at_ms * kMs;
  made.latency_ns = latency_ms * kMs;
  made.outcome = outcome;
  return made;
}

TEST(Ramp, steps_are_equal_and_the_warm_up_goes_before_the_first) {
  EXPECT_EQ(step_begin_ns(kPeriod, kSteps, 0), 0U);
  EXPECT_EQ(step_begin_ns(kPeriod, kSteps, 1), 350 * kMs);
  EXPECT_EQ(step_begin_ns(kPeriod, kSteps, 4), kPeriod.end_ns);
}

TEST(Ramp, the_rate_of_a_trace_rises_with_each_step) {
  Scenario scenario = *find_scenario("ramp");
  const Period period = period_of(12);
  const Trace trace = make_trace(scenario, 8, 1.2, period, 1);
  std::vector<double> counts(scenario.steps);
  for (const auto& arrival : trace) {
    for (unsigned i = 0; i < scenario.steps; ++i)
      counts[i] +=
          arrival.at_ns >= step_begin_ns(period, scenario.steps, i) && arrival.at_ns < step_begin_ns(period, scenario.steps, i + 1);
  }
  const double full = arrival_rate_per_s(scenario, 8, 1.2) * 12 / scenario.steps;
  for (unsigned i = 1; i < scenario.steps; ++i) EXPECT_NEAR(counts[i], full * (i + 1) / scenario.steps, 0.1 * full) << i;
}

TEST(Ramp, a_step_has_what_began_in_it_and_counts_what_was_answered_in_it) {
  const std::vector<Record> records{record(50, 1), record(200, 10), record(340, 20), record(400, 30), record(900, 1)};
  const auto ramp = measure_ramp(records, {}, {.workers = 1}, kPeriod, kSteps, 900 * kMs);
  ASSERT_EQ(ramp.size(), 3U);  // the fourth had not ended
  EXPECT_DOUBLE_EQ(ramp[0].offered_per_s, 8);
  EXPECT_DOUBLE_EQ(ramp[0].throughput_per_s, 4);  // one of the two came in the next step
  EXPECT_DOUBLE_EQ(ramp[0].latency.max, 20);
  EXPECT_DOUBLE_EQ(ramp[1].offered_per_s, 4);
  EXPECT_DOUBLE_EQ(ramp[1].throughput_per_s, 8);
  EXPECT_DOUBLE_EQ(ramp[2].offered_per_s, 0);
}

TEST(Ramp, what_was_never_answered_counts_with_the_time_it_had_waited) {
  const std::vector<Record> records{record(200, 10), record(300, 0, Outcome::pending)};
  const auto ramp = measure_ramp(records, {}, {.workers = 1}, kPeriod, kSteps, 800 * kMs);
  EXPECT_DOUBLE_EQ(ramp[0].latency.max, 500);
}

TEST(Ramp, a_server_fell_behind_when_much_waits_at_the_end_of_a_step) {
  std::vector<Record> records;
  for (uint64_t i = 0; i < 100; ++i) records.push_back(record(200 + i, 1));
  EXPECT_FALSE(fell_behind(records, kPeriod, kSteps, 0, 1));
  for (uint64_t i = 0; i < 5; ++i) records.push_back(record(300 + i, 100));
  EXPECT_FALSE(fell_behind(records, kPeriod, kSteps, 0, 1));
  records.push_back(record(310, 0, Outcome::pending));
  EXPECT_TRUE(fell_behind(records, kPeriod, kSteps, 0, 1));
  EXPECT_FALSE(fell_behind(records, kPeriod, kSteps, 0, 2));  // four for each worker are no sign
}

TEST(Ramp, the_table_has_a_column_for_each_step_and_the_most_that_was_answered) {
  RunResult run;
  run.throughput_per_s = 7777;
  run.ramp.resize(3);
  run.ramp[2].latency.p99 = 123;
  const std::string text = ramp_table(*find_scenario("ramp"), 1.2, {{"shared", {&run}}});
  EXPECT_NE(text.find("1.2"), std::string::npos) << text;
  EXPECT_NE(text.find("123"), std::string::npos) << text;
  EXPECT_NE(text.find("7777*"), std::string::npos) << text;
  EXPECT_NE(text.find(" -"), std::string::npos) << text;
}

}  // namespace
}  // namespace lbbench
