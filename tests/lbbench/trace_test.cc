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

TEST(Trace, held_connections_ask_as_they_end_and_those_left_all_at_the_end) {
  const auto& held = *find_scenario("held");
  const Trace trace = make_trace(held, 8, 0, kPeriod, 1);
  EXPECT_TRUE(std::ranges::all_of(trace, [](const Arrival& a) { return a.ask_ns() <= kPeriod.end_ns; }));
  const auto last = std::ranges::count(trace, kPeriod.end_ns, &Arrival::ask_ns);
  EXPECT_NEAR(static_cast<double>(last), 8.0 * held.held_per_worker, 80);
  EXPECT_EQ(counted_period(held, kPeriod).warm_up_ns, kPeriod.end_ns);
}

TEST(Trace, a_closed_loop_has_none) { EXPECT_TRUE(make_trace(*find_scenario("connect"), 2, 0, kPeriod, 1).empty()); }

TEST(Period, a_tenth_is_for_warming_up_within_limits) {
  EXPECT_EQ(period_of(5).warm_up_ns, 500'000'000U);
  EXPECT_EQ(period_of(0.2).warm_up_ns, 100'000'000U);
  EXPECT_EQ(period_of(100).warm_up_ns, 1'000'000'000U);
  EXPECT_EQ(period_of(5).end_ns, 5'500'000'000U);
}

TEST(Fleet, slow_workers_are_worth_less_and_the_arrivals_fit_what_all_are_worth) {
  const auto& uneven = *find_scenario("uneven");
  EXPECT_DOUBLE_EQ(fleet_of(uneven, 8, kPeriod).capacity(), 6);
  EXPECT_DOUBLE_EQ(arrival_rate_per_s(uneven, 8, 0.5), 3000);
  EXPECT_DOUBLE_EQ(fleet_of(*find_scenario("mixed"), 8, kPeriod).capacity(), 8);
}

TEST(Fleet, the_hang_is_the_middle_third) {
  const Fleet fleet = fleet_of(*find_scenario("hang"), 4, {1'000'000'000, 7'000'000'000});
  EXPECT_EQ(fleet.hang_from_ns, 3'000'000'000u);
  EXPECT_EQ(fleet.hang_to_ns, 5'000'000'000u);
}

}  // namespace
}  // namespace lbbench
