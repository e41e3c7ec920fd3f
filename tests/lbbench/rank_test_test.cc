// SPDX-License-Identifier: MIT
#include "rank_test.hh"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace lbbench {
namespace {

std::vector<double> from_to(double first, double last) {
  std::vector<double> values;
  for (double value = first; value <= last; ++value) values.push_back(value);
  return values;
}

TEST(RankTest, p_of_samples_without_ties_is_the_tables) {
  // Mann and Whitney 1947, table I: n = m = 4, U = 0 and U = 3: one-sided 0.014 and 0.100.
  EXPECT_NEAR(rank_sum_p({1, 2, 3, 4}, {5, 6, 7, 8}), 2.0 / 70, 1e-12);
  EXPECT_NEAR(rank_sum_p({1, 2, 3, 7}, {4, 5, 6, 8}), 2 * 7.0 / 70, 1e-12);
}

TEST(RankTest, p_does_not_depend_on_which_is_before) {
  const std::vector<double> a{1, 5, 5, 9, 2};
  const std::vector<double> b{5, 6, 9, 12};
  EXPECT_DOUBLE_EQ(rank_sum_p(a, b), rank_sum_p(b, a));
}

TEST(RankTest, equal_values_show_nothing) {
  EXPECT_DOUBLE_EQ(rank_sum_p({2, 2, 2, 2, 2, 2}, {2, 2, 2, 2, 2, 2}), 1);
  EXPECT_DOUBLE_EQ(rank_sum_p({}, {1}), 1);
  const std::vector<double> many(40, 7);
  EXPECT_DOUBLE_EQ(rank_sum_p(many, many), 1);
}

TEST(RankTest, the_approximation_for_many_values_joins_the_exact_one) {
  const auto before = from_to(1, 30);
  auto after = from_to(1, 30);
  for (double& value : after) value += 6.5;
  const double exact = rank_sum_p(before, after);
  after.push_back(22);  // 61 values in all
  EXPECT_NEAR(rank_sum_p(before, after), exact, 0.25 * exact);
}

TEST(RankTest, least_p_is_that_of_samples_which_do_not_overlap) {
  EXPECT_DOUBLE_EQ(least_p(3, 3), 0.1);
  EXPECT_NEAR(least_p(5, 5), rank_sum_p(from_to(1, 5), from_to(6, 10)), 1e-12);
  EXPECT_EQ(repeats_for(0.05), 4U);
  EXPECT_EQ(repeats_for(0.05 / 24), 7U);
}

TEST(RankTest, interval_of_the_ratio_is_that_of_the_tables) {
  // n = m = 5: of 25 ratios in order the third from each end, 95 % (Conover, Practical Nonparametric Statistics, table A7: w = 2 + 1).
  const std::vector<double> before(5, 1.0);
  const auto after = std::vector<double>{1, 2, 3, 4, 5};
  std::vector<double> spread_before{1, 1.01, 1.02, 1.03, 1.04};
  std::vector<double> ratios;
  for (const double a : after)
    for (const double b : spread_before) ratios.push_back(a / b);
  std::sort(ratios.begin(), ratios.end());
  const auto estimate = estimate_ratio(spread_before, after, 0.95);
  EXPECT_DOUBLE_EQ(estimate.low, ratios[3 - 1]);
  EXPECT_DOUBLE_EQ(estimate.high, ratios[25 - 3]);
  EXPECT_DOUBLE_EQ(estimate_ratio(before, after, 0.95).ratio, 3);
}

TEST(RankTest, interval_of_too_few_is_their_range) {
  const auto estimate = estimate_ratio({1, 2}, {2, 4}, 0.95);
  EXPECT_DOUBLE_EQ(estimate.low, 1);
  EXPECT_DOUBLE_EQ(estimate.high, 4);
}

}  // namespace
}  // namespace lbbench
