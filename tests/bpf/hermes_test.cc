// SPDX-License-Identifier: MIT
// reuseport:hermes in the kernel: what the program makes of the workers' verdicts, on both rungs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "reuseport_group.hh"

namespace lb::test {
namespace {

using ::testing::Each;
using ::testing::Gt;
using Rung = ReuseportProgram::Rung;

#define OPEN_OR_SKIP(...)                                     \
  do {                                                        \
    const std::string why = open(__VA_ARGS__);                \
    if (!why.empty() && privileged_required()) FAIL() << why; \
    if (!why.empty()) GTEST_SKIP() << why;                    \
  } while (false)

class Hermes : public ::testing::TestWithParam<Rung> {
 protected:
  std::string open(uint32_t slots) {
    auto why = group.open(slots, GetParam());
    if (why.empty()) group.settings().selector = LB_SELECT_HERMES;
    return why;
  }
  /// A worker's word at `time`; the slots are of its own 64.
  void judge(uint32_t worker, uint64_t time, std::initializer_list<uint32_t> passed) {
    lb_hermes& its = group.page(worker).hermes;
    its.decided_ns = time;
    its.passed = 0;
    for (const uint32_t slot : passed) its.passed |= __u64{1} << (slot % 64);
  }
  /// Who was picked in so many connections.
  std::vector<uint32_t> picked_in(int connections) {
    const auto before = group.all_picks();
    EXPECT_TRUE(group.connect_many(connections));
    const auto after = group.all_picks();
    std::vector<uint32_t> picked;
    for (uint32_t slot = 0; slot < after.size(); slot++)
      if (after[slot] != before[slot]) picked.push_back(slot);
    return picked;
  }
  using Slots = std::vector<uint32_t>;

  ReuseportGroup group;
};

INSTANTIATE_TEST_SUITE_P(Rungs, Hermes, ::testing::Values(Rung::kernel_backlog, Rung::in_flight), [](const auto& rung) {
  return std::string(rung.param == Rung::kernel_backlog ? "kernel_backlog" : "in_flight");
});

// 100 connections miss one of two slots once in 10^30, one of four once in 10^12.
TEST_P(Hermes, connections_go_to_those_who_passed_and_to_each_of_them) {
  OPEN_OR_SKIP(6);
  for (uint32_t worker = 0; worker < 6; worker++) judge(worker, 1000 + worker, {1, 4});
  for (uint32_t slot : {1, 4}) group.page(slot).in_flight = 1000;  // the verdict is the workers'
  EXPECT_EQ(picked_in(100), (Slots{1, 4}));
}

TEST_P(Hermes, all_get_their_share_while_nobody_has_judged) {
  OPEN_OR_SKIP(4);
  EXPECT_EQ(picked_in(200), (Slots{0, 1, 2, 3}));
}

TEST_P(Hermes, fewer_than_two_who_passed_are_as_good_as_all) {
  OPEN_OR_SKIP(4);
  for (uint32_t worker = 0; worker < 4; worker++) judge(worker, 1000, {2});
  EXPECT_EQ(picked_in(200), (Slots{0, 1, 2, 3}));
  for (uint32_t worker = 0; worker < 4; worker++) judge(worker, 1000, {});
  EXPECT_EQ(picked_in(200), (Slots{0, 1, 2, 3}));
}

TEST_P(Hermes, two_latest_verdicts_count_wherever_they_are) {
  OPEN_OR_SKIP(20);
  for (uint32_t worker = 0; worker < 20; worker++) judge(worker, 1000, {0, 1, 2, 3});
  judge(17, 2000, {5, 6});
  judge(3, 1500, {6, 7});
  EXPECT_EQ(picked_in(200), (Slots{5, 6, 7}));
  judge(8, 2500, {9, 10});
  EXPECT_EQ(picked_in(200), (Slots{5, 6, 9, 10}));
}

TEST_P(Hermes, time_that_is_nonsense_leaves_the_other_verdict_in_force) {
  OPEN_OR_SKIP(4);
  judge(0, UINT64_MAX, {0});
  judge(1, 1000, {1, 2});
  judge(2, 900, {3});
  EXPECT_EQ(picked_in(200), (Slots{0, 1, 2})) << "one word alone has left somebody out";
  judge(0, UINT64_MAX, {0, 1, 2, 3});
  EXPECT_EQ(picked_in(200), (Slots{0, 1, 2, 3}));
}

// 900 connections over three slots are 300 each, standard deviation 14.
TEST_P(Hermes, who_lets_itself_through_gets_one_share_and_no_more) {
  OPEN_OR_SKIP(4);
  judge(0, UINT64_MAX, {0});
  judge(1, 1000, {1, 2});
  EXPECT_EQ(picked_in(900), (Slots{0, 1, 2}));
  for (uint32_t slot : {0, 1, 2}) EXPECT_NEAR(static_cast<double>(group.picks(slot)), 300, 90) << slot;
}

TEST_P(Hermes, who_is_not_ready_is_neither_picked_nor_heard) {
  OPEN_OR_SKIP(5);
  judge(0, 3000, {0, 4});
  judge(1, 2000, {1, 2, 3});
  judge(2, 1000, {1, 2, 3});
  group.set_ready(0, false);
  EXPECT_EQ(picked_in(200), (Slots{1, 2, 3}));
  group.set_ready(3, false);
  EXPECT_EQ(picked_in(200), (Slots{1, 2}));
  group.settings().slot_count = 2;  // of those who passed one is left
  EXPECT_EQ(picked_in(100), (Slots{1}));
  EXPECT_EQ(group.exits(LB_EXIT_SINGLE), 100u);
}

TEST_P(Hermes, beyond_64_slots_the_hash_picks_the_group_and_each_judges_its_own) {
  OPEN_OR_SKIP(140);
  for (uint32_t worker : {0, 63}) judge(worker, 1000, {3, 63});
  for (uint32_t worker : {64, 100}) judge(worker, 900, {64, 127});
  for (uint32_t worker : {128, 139}) judge(worker, 5000, {128, 139});
  EXPECT_EQ(picked_in(400), (Slots{3, 63, 64, 127, 128, 139}));
  const auto two = [&](uint32_t a, uint32_t b) { return static_cast<double>(group.picks(a) + group.picks(b)); };
  EXPECT_NEAR(two(3, 63), 183, 60) << "64 of 140, standard deviation 10";
  EXPECT_NEAR(two(128, 139), 34, 34) << "12 of 140";
}

TEST_P(Hermes, last_slots_of_all_can_be_picked) {
  OPEN_OR_SKIP(LB_MAX_SLOTS);
  for (__u64& word : group.settings().ready) word = 0;
  for (uint32_t slot : {1, 2, 510, 511}) group.set_ready(slot, true);
  judge(510, 1000, {510, 511});
  EXPECT_EQ(picked_in(200), (Slots{1, 2, 510, 511}));
}

TEST_P(Hermes, queue_of_a_closed_listener_goes_to_those_who_passed) {
  OPEN_OR_SKIP(4);
  judge(0, 1000, {1, 3});
  judge(1, 1000, {1, 3});
  group.set_ready(1, false);
  group.set_ready(2, false);
  group.set_ready(3, false);
  ASSERT_TRUE(group.connect_many(6));
  while (group.backlog(0) < 6) ::sched_yield();
  for (uint32_t slot : {1, 2, 3}) group.set_ready(slot, true);
  group.set_ready(0, false);
  ASSERT_EQ(::shutdown(group.listener(0), SHUT_RDWR), 0);
  EXPECT_EQ(group.backlog(1) + group.backlog(3), 6u);
  EXPECT_EQ(group.exits(LB_EXIT_MIGRATED), 6u);
}

}  // namespace
}  // namespace lb::test
