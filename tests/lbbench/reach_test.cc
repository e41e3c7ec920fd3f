// SPDX-License-Identifier: MIT
#include "reach.hh"

#include <gtest/gtest.h>

namespace lbbench {
namespace {

Reach reach(const char* scenario, unsigned workers, Work work, unsigned cpus) {
  return {*find_scenario(scenario), workers, work, cpus};
}

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

TEST(ReachTest, computing_workers_must_leave_something_for_the_clients) {
  const Reach two = reach("exponential", 2, Work::cpu, 2);
  EXPECT_EQ(two.refusal(0.99), "");
  const auto why = two.refusal(1);
  EXPECT_TRUE(has(why, "--utilization: 1 of 2 workers") && has(why, "2.0 of 2 CPUs under exponential")) << why;
  EXPECT_TRUE(has(why, "up to 0.88 fits")) << why;  // 2 CPUs / (2 + 2,000/s / 8,000/s)
}

TEST(ReachTest, computing_workers_that_are_overloaded_take_a_cpu_each_and_no_more) {
  EXPECT_EQ(reach("exponential", 1, Work::cpu, 2).refusal(1.5), "");
  EXPECT_NE(reach("exponential", 2, Work::cpu, 2).refusal(1.5), "");
}

TEST(ReachTest, where_not_the_least_utilization_fits_fewer_workers_are_the_advice) {
  EXPECT_TRUE(has(reach("uneven", 256, Work::cpu, 1).refusal(0.7), "take fewer --workers"));
  EXPECT_FALSE(has(reach("uneven", 256, Work::cpu, 1).refusal(0.7), "fits"));
}

TEST(ReachTest, sleeping_workers_are_refused_nothing_and_doubted_where_connections_alone_are_too_many) {
  const Reach many = reach("uneven", 256, Work::sleep, 2);
  EXPECT_EQ(many.refusal(1.5), "");
  EXPECT_DOUBLE_EQ(many.utilization(), 16'000.0 / 192'000);
  EXPECT_EQ(many.warning(0.08), "");
  const auto why = many.warning(0.7);
  EXPECT_TRUE(has(why, "uneven: --utilization 0.7") && has(why, "134400 connections/s") && has(why, "up to 0.08 fits")) << why;
}

TEST(ReachTest, what_computing_workers_leave_may_be_too_little) {
  const Reach two = reach("exponential", 2, Work::cpu, 2);
  EXPECT_EQ(two.warning(0.88), "");
  EXPECT_TRUE(has(two.warning(0.95), "2.1 of 2 CPUs")) << two.warning(0.95);
}

TEST(ReachTest, a_ramp_and_loads_without_a_utilization_are_refused_nothing) {
  for (const char* name : {"ramp", "held", "connect", "chaos"}) EXPECT_EQ(reach(name, 8, Work::cpu, 1).refusal(1.5), "") << name;
  for (const char* name : {"held", "connect", "chaos"}) EXPECT_EQ(reach(name, 256, Work::cpu, 1).warning(1.5), "") << name;
}

}  // namespace
}  // namespace lbbench
