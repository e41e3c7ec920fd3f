// SPDX-License-Identifier: MIT
#include "trace.hh"

#include <gtest/gtest.h>

#include <algorithm>

namespace lbbench {
namespace {

bool operator==(const Arrival& a, const Arrival& b) { return a.at_ns == b.at_ns && a.service_ns == b.service_ns; }

constexpr Period kPeriod{1'000'000'000, 21'000'000'000};

TEST(Trace, one_seed_gives_one_trace) {
  const auto& mixed = *find_scenario("mixed");
  const Trace a = make_trace(mixed, 8, 0.7, kPeriod, 5);
  const Trace b = make_trace(mixed, 8, 0.7, kPeriod, 5);
  EXPECT_TRUE(std::ranges::equal(a, b, [](auto& x, auto& y) { return x == y; }));
  const Trace c = make_trace(mixed, 8, 0.7, kPeriod, 6);
  EXPECT_FALSE(std::ranges::equal(a, c, [](auto& x, auto& y) { return x == y; }));
}

TEST(Trace, offers_the_utilization_asked_for) {
  for (const char* name : {"mixed", "exponential", "few"}) {
    const Trace trace = make_trace(*find_scenario(name), 8, 0.7, kPeriod, 1);
    double busy_ns = 0;
    for (const auto& arrival : trace) busy_ns += static_cast<double>(arrival.service_ns);
    EXPECT_NEAR(busy_ns / (8.0 * kPeriod.end_ns), 0.7, 0.02) << name;
  }
}

TEST(Trace, arrivals_are_in_order_and_end_in_time) {
  const Trace trace = make_trace(*find_scenario("exponential"), 4, 0.9, kPeriod, 1);
  EXPECT_TRUE(std::ranges::is_sorted(trace, {}, &Arrival::at_ns));
  EXPECT_LT(trace.back().at_ns, kPeriod.end_ns);
}

TEST(Trace, mixed_has_one_long_connection_in_twenty) {
  const Trace trace = make_trace(*find_scenario("mixed"), 8, 0.7, kPeriod, 1);
  const auto longs = std::ranges::count(trace, 10'000'000U, &Arrival::service_ns);
  EXPECT_NEAR(static_cast<double>(longs) / static_cast<double>(trace.size()), 0.05, 0.005);
}

TEST(Trace, a_burst_has_one_connection_for_each_worker) {
  const Trace trace = make_trace(*find_scenario("few"), 6, 0.5, kPeriod, 1);
  for (size_t i = 0; i < trace.size(); i += 6) {
    EXPECT_EQ(trace[i].at_ns, trace[i + 5].at_ns);
    if (i > 0) {
      EXPECT_NE(trace[i].at_ns, trace[i - 1].at_ns);
    }
  }
}

TEST(Trace, a_closed_loop_has_none) { EXPECT_TRUE(make_trace(*find_scenario("connect"), 2, 0, kPeriod, 1).empty()); }

TEST(Period, a_tenth_is_for_warming_up_within_limits) {
  EXPECT_EQ(period_of(5).warm_up_ns, 500'000'000U);
  EXPECT_EQ(period_of(0.2).warm_up_ns, 100'000'000U);
  EXPECT_EQ(period_of(100).warm_up_ns, 1'000'000'000U);
  EXPECT_EQ(period_of(5).end_ns, 5'500'000'000U);
}

}  // namespace
}  // namespace lbbench
