// SPDX-License-Identifier: MIT
#include "histogram.hh"

#include <gtest/gtest.h>

#include <numeric>

#include "statistics.hh"

namespace lbbench {
namespace {

TEST(HistogramTest, percentiles_are_within_the_width_of_a_bucket) {
  std::vector<uint64_t> latencies_ns(10'000);
  for (size_t i = 0; i < latencies_ns.size(); ++i) latencies_ns[i] = 10'000 + i * i;
  const auto histogram = Histogram::of(latencies_ns);
  EXPECT_EQ(histogram.total(), latencies_ns.size());
  for (const double percent : {1.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
    const double exact_ms = static_cast<double>(percentile(latencies_ns, percent)) / 1e6;
    EXPECT_NEAR(histogram.percentile_ms(percent) / exact_ms, 1, 0.012) << percent;
  }
}

TEST(HistogramTest, merged_is_what_counting_all_together_gives) {
  const std::vector<uint64_t> low{5'000, 7'000};
  const std::vector<uint64_t> high{4'000'000, 90'000'000, 90'000'000};
  const std::vector<uint64_t> all{5'000, 7'000, 4'000'000, 90'000'000, 90'000'000};
  for (const bool low_first : {true, false}) {
    Histogram merged = Histogram::of(low_first ? low : high);
    merged.merge(Histogram::of(low_first ? high : low));
    EXPECT_EQ(merged.first(), Histogram::of(all).first());
    EXPECT_EQ(merged.counts(), Histogram::of(all).counts());
  }
}

TEST(HistogramTest, merging_with_nothing_changes_nothing) {
  Histogram merged;
  EXPECT_EQ(merged.percentile_ms(99), 0);
  merged.merge(Histogram(10, {1, 2}));
  merged.merge({});
  EXPECT_EQ(merged.first(), 10U);
  EXPECT_EQ(merged.counts(), (std::vector<uint64_t>{1, 2}));
}

TEST(HistogramTest, of_extremes_stays_in_its_buckets) {
  const auto histogram = Histogram::of(std::vector<uint64_t>{0, UINT64_MAX});
  EXPECT_EQ(histogram.total(), 2U);
  EXPECT_LE(histogram.first() + histogram.counts().size(), Histogram::kBucketsMax);
}

}  // namespace
}  // namespace lbbench
