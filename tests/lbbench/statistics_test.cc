// SPDX-License-Identifier: MIT
#include "statistics.hh"

#include <gtest/gtest.h>

#include <numeric>

namespace lbbench {
namespace {

TEST(Percentile, is_the_nearest_rank) {
  std::vector<uint64_t> values(1000);
  std::iota(values.begin(), values.end(), 1U);
  EXPECT_EQ(percentile(values, 50), 500U);
  EXPECT_EQ(percentile(values, 90), 900U);
  EXPECT_EQ(percentile(values, 99), 990U);
  EXPECT_EQ(percentile(values, 99.9), 999U);
  EXPECT_EQ(percentile(values, 100), 1000U);
  EXPECT_EQ(percentile(values, 0), 1U);
}

TEST(Percentile, of_one_value_is_that_value) {
  const std::vector<uint64_t> one{7};
  EXPECT_EQ(percentile(one, 50), 7U);
  EXPECT_EQ(percentile(one, 99.9), 7U);
}

TEST(Percentile, of_nothing_is_zero) { EXPECT_EQ(percentile({}, 99), 0U); }

TEST(Summarize, sorts_and_gives_milliseconds) {
  const Latency ms = summarize({4'000'000, 1'000'000, 3'000'000, 2'000'000});
  EXPECT_DOUBLE_EQ(ms.mean, 2.5);
  EXPECT_DOUBLE_EQ(ms.p50, 2);
  EXPECT_DOUBLE_EQ(ms.p99, 4);
  EXPECT_DOUBLE_EQ(ms.max, 4);
}

TEST(Share, of_equal_workers_has_no_spread) {
  const Share share = share_of({100, 100, 100});
  EXPECT_DOUBLE_EQ(share.max_over_mean, 1);
  EXPECT_DOUBLE_EQ(share.stddev, 0);
}

TEST(Share, of_one_worker_doing_all_is_the_number_of_workers) {
  const Share share = share_of({0, 400, 0, 0});
  EXPECT_DOUBLE_EQ(share.max_over_mean, 4);
  EXPECT_NEAR(share.stddev, 173.2, 0.1);
}

TEST(Median, of_an_even_count_lies_between_the_middle_two) {
  EXPECT_DOUBLE_EQ(median({9, 1, 3, 5}), 4);
  EXPECT_DOUBLE_EQ(median({9, 1, 3}), 3);
  EXPECT_DOUBLE_EQ(median({}), 0);
}

}  // namespace
}  // namespace lbbench
