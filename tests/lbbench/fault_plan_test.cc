// SPDX-License-Identifier: MIT
#include "fault_plan.hh"

#include <gtest/gtest.h>

#include <set>

namespace lbbench {
namespace {

bool same(const Fault& one, const Fault& other) {
  return one.kind == other.kind && one.pause_ns == other.pause_ns && one.draw == other.draw;
}

TEST(FaultPlanTest, a_seed_makes_the_same_faults_each_time_and_another_seed_others) {
  FaultPlan first(Harm::chaos, 7);
  FaultPlan again(Harm::chaos, 7);
  FaultPlan other(Harm::chaos, 8);
  unsigned different = 0;
  for (int i = 0; i < 100; ++i) {
    const Fault fault = first.next();
    EXPECT_TRUE(same(fault, again.next()));
    different += same(fault, other.next()) ? 0 : 1;
  }
  EXPECT_GT(different, 90U);
}

TEST(FaultPlanTest, chaos_does_everything) {
  FaultPlan plan(Harm::chaos, 1);
  std::set<FaultKind> kinds;
  for (int i = 0; i < 1000; ++i) kinds.insert(plan.next().kind);
  EXPECT_EQ(kinds.size(), kFaultKinds);
}

TEST(FaultPlanTest, the_other_scenarios_do_one_thing) {
  const std::pair<Harm, FaultKind> all[] = {{Harm::crash, FaultKind::kill},
                                            {Harm::restart, FaultKind::roll},
                                            {Harm::change, FaultKind::policy},
                                            {Harm::scale, FaultKind::scale}};
  for (const auto& [harm, kind] : all) {
    FaultPlan plan(harm, 1);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(plan.next().kind, kind);
  }
}

TEST(FaultPlanTest, a_tour_makes_every_change_once_and_comes_back) {
  for (const char* first : {"round-robin", "reuseport:sticky"}) {
    const auto policies = policies_to_visit(first);
    EXPECT_EQ(policies.front(), first);
    EXPECT_GE(policies.size(), 6U);
    std::set<std::pair<std::string, std::string>> changes;
    std::string here = first;
    for (const auto& next : tour_of(policies)) {
      EXPECT_NE(next, here);
      EXPECT_TRUE(changes.emplace(here, next).second) << here << " to " << next << " twice";
      here = next;
    }
    EXPECT_EQ(here, first);
    EXPECT_EQ(changes.size(), policies.size() * (policies.size() - 1));
  }
}

}  // namespace
}  // namespace lbbench
