// SPDX-License-Identifier: MIT
#include "spread.hh"

#include <gtest/gtest.h>

#include "sample.hh"

namespace lbbench {
namespace {

TEST(SpreadTest, few_repeats_give_their_range_and_say_how_little_it_holds) {
  const auto three = spread_of({3, 1, 2});
  EXPECT_EQ(three.median, 2);
  EXPECT_EQ(three.low, 1);
  EXPECT_EQ(three.high, 3);
  EXPECT_DOUBLE_EQ(three.confidence, 0.75);
  EXPECT_DOUBLE_EQ(spread_of({1}).confidence, 0);
  EXPECT_LT(spread_of({1, 2, 3, 4, 5}).confidence, 0.95);
  EXPECT_GE(spread_of({1, 2, 3, 4, 5, 6}).confidence, 0.95);
}

TEST(SpreadTest, interval_is_the_narrowest_pair_of_order_statistics_that_holds_95_percent) {
  std::vector<double> values(20);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i + 1);
  const auto spread = spread_of(values);  // from tables of the binomial distribution: the 6th and the 15th of 20, 95.9 %
  EXPECT_EQ(spread.low, 6);
  EXPECT_EQ(spread.high, 15);
  EXPECT_NEAR(spread.confidence, 0.9586, 1e-4);
}

TEST(SpreadTest, ratios_are_taken_between_runs_of_one_repeat) {
  const std::vector<RunResult> runs{sample_open_run("a", 2, 20, 10), sample_open_run("b", 1, 10, 10),
                                    sample_open_run("a", 1, 30, 10), sample_open_run("b", 2, 5, 10),
                                    sample_open_run("b", 3, 5, 10)};
  const auto policies = by_policy(runs);
  ASSERT_EQ(policies.size(), 2U);
  EXPECT_EQ(policies[0].runs[0]->repeat, 1U);
  const auto p99 = [](const RunResult& run) { return run.latency.p99; };
  EXPECT_EQ(ratios_by_pair(policies[0], policies[1], p99), (std::vector<double>{3, 4}));
}

}  // namespace
}  // namespace lbbench
