// SPDX-License-Identifier: MIT
// Whom the program passes over, by itself: workers whose heartbeat stands still although they were given connections.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "reuseport_group.hh"

namespace lb::test {
namespace {

using Clock = std::chrono::steady_clock;
using Rung = ReuseportProgram::Rung;
using std::chrono::milliseconds;

constexpr int kHung_ms = 120;  // HUNG_AFTER_NS
constexpr int kConnectsMax = 3000;

class HungGroup {
 public:
  ReuseportGroup group;

  /// All workers are alive; those from `alive` on have so much to do that the others are the program's choice.
  std::string open(uint32_t slots, uint32_t alive, Rung rung) {
    alive_ = alive;
    slots_ = slots;
    if (auto why = group.open(slots, rung); !why.empty()) return why;
    for (uint32_t slot = 0; slot < slots; slot++) {
      group.page(slot).heartbeat = 1;
      if (slot >= alive) group.page(slot).in_flight = 100;
    }
    return "";
  }

  /// A connection; the workers that are alive take what they have. Some time passes.
  bool connect() {
    if (group.connect() < 0) return false;
    for (uint32_t slot = alive_; slot < slots_; slot++) work(slot);
    ::poll(nullptr, 0, 2);
    return true;
  }
  void work(uint32_t slot) {
    while (group.backlog(slot) != 0) group.accept(slot);
    group.settle(slot);
    group.page(slot).heartbeat++;
  }
  bool connect_until(const std::function<bool()>& so) {
    for (int i = 0; i < kConnectsMax; i++) {
      if (so()) return true;
      if (!connect()) return false;
    }
    return false;
  }
  bool passed_over(uint32_t slot) { return group.program().hung(slot); }

 private:
  uint32_t alive_ = 0;
  uint32_t slots_ = 0;
};

#define OPEN_OR_SKIP(hung, ...)                               \
  do {                                                        \
    const std::string why = (hung).open(__VA_ARGS__);         \
    if (!why.empty() && privileged_required()) FAIL() << why; \
    if (!why.empty()) GTEST_SKIP() << why;                    \
  } while (false)

std::string rung_name(Rung rung) { return rung == Rung::kernel_backlog ? "kernel_backlog" : "in_flight"; }

class HungBySelector : public ::testing::TestWithParam<std::tuple<Rung, lb_selector>> {
 protected:
  HungGroup hung;
};
INSTANTIATE_TEST_SUITE_P(
    every, HungBySelector,
    ::testing::Combine(::testing::Values(Rung::kernel_backlog, Rung::in_flight),
                       ::testing::Values(LB_SELECT_LEAST_LOADED, LB_SELECT_P2C, LB_SELECT_RANDOM, LB_SELECT_HERMES)),
    [](const auto& its) { return rung_name(std::get<0>(its.param)) + "_" + std::to_string(std::get<1>(its.param)); });

TEST_P(HungBySelector, gets_nothing_until_its_heartbeat_moves) {
  OPEN_OR_SKIP(hung, 4, 1, std::get<0>(GetParam()));
  hung.group.settings().selector = std::get<1>(GetParam());
  hung.group.settings().swept_at = UINT32_MAX / 2;  // a primary that looks: none is probed
  const auto swept = [&] {
    hung.group.settings().swept_at = static_cast<uint32_t>(Clock::now().time_since_epoch().count() >> 20);
    return hung.passed_over(0);
  };
  ASSERT_TRUE(hung.connect_until(swept));
  const auto before = hung.group.picks(0);
  EXPECT_GT(before, 0u);
  for (int i = 0; i < 100; i++) {
    swept();
    ASSERT_TRUE(hung.connect());
  }
  EXPECT_EQ(hung.group.picks(0), before);
  EXPECT_GT(hung.group.exits(LB_EXIT_AVOIDED), 0u);
  hung.work(0);
  ASSERT_TRUE(hung.connect_until([&] { return hung.group.picks(0) > before; })) << "not back";
  EXPECT_FALSE(hung.passed_over(0));
}

class Hung : public ::testing::TestWithParam<Rung> {
 protected:
  HungGroup hung;
};
INSTANTIATE_TEST_SUITE_P(Rungs, Hung, ::testing::Values(Rung::kernel_backlog, Rung::in_flight),
                         [](const auto& its) { return rung_name(its.param); });

TEST_P(Hung, several_at_once_are_passed_over_together) {
  OPEN_OR_SKIP(hung, 70, 5, GetParam());
  const auto all = [&] {
    for (uint32_t slot = 0; slot < 5; slot++)
      if (!hung.passed_over(slot)) return false;
    return true;
  };
  ASSERT_TRUE(hung.connect_until(all));
  hung.work(3);
  const auto before = hung.group.picks(3);
  ASSERT_TRUE(hung.connect_until([&] { return hung.group.picks(3) > before; })) << "the one that moves is back";
  EXPECT_FALSE(hung.passed_over(3));
  EXPECT_TRUE(hung.passed_over(0) && hung.passed_over(4)) << "the others are not";
}

TEST_P(Hung, worker_that_takes_its_connections_is_never_passed_over) {
  OPEN_OR_SKIP(hung, 3, 0, GetParam());
  const auto end = Clock::now() + milliseconds(3 * kHung_ms);
  while (Clock::now() < end) ASSERT_TRUE(hung.connect());
  EXPECT_EQ(hung.group.exits(LB_EXIT_AVOIDED), 0u);
}

// It slept through it: a sibling took the connection before it woke.
TEST_P(Hung, one_connection_that_a_sibling_took_is_held_against_nobody) {
  OPEN_OR_SKIP(hung, 2, 1, GetParam());
  ASSERT_GE(hung.group.connect(), 0);
  ASSERT_EQ(hung.group.picks(0), 1u);
  ASSERT_TRUE(hung.group.accept(0));
  ::poll(nullptr, 0, 2 * kHung_ms);  // time has to pass here
  ASSERT_GE(hung.group.connect(), 0);
  EXPECT_EQ(hung.group.picks(0), 2u);
}

TEST_P(Hung, worker_whose_connections_are_all_taken_by_siblings_is_passed_over_nevertheless) {
  OPEN_OR_SKIP(hung, 2, 1, GetParam());
  ASSERT_TRUE(hung.connect_until([&] {
    while (hung.group.backlog(0) != 0) hung.group.accept(0);
    return hung.passed_over(0);
  }));
  EXPECT_GE(hung.group.picks(0), 3u);
}

TEST_P(Hung, when_all_have_hung_the_least_loaded_gets_it) {
  OPEN_OR_SKIP(hung, 3, 3, GetParam());
  const auto all = [&] { return hung.passed_over(0) && hung.passed_over(1) && hung.passed_over(2); };
  ASSERT_TRUE(hung.connect_until(all));
  for (uint32_t slot : {0, 2}) hung.group.page(slot).in_flight = 10'000;
  hung.group.settings().swept_at = static_cast<uint32_t>(Clock::now().time_since_epoch().count() >> 20);
  const auto before = hung.group.all_picks();
  ASSERT_TRUE(hung.group.connect_many(20));
  EXPECT_EQ(hung.group.picks(1), before[1] + 20);
}

TEST_P(Hung, while_no_primary_looks_one_connection_a_second_tries_it) {
  OPEN_OR_SKIP(hung, 2, 1, GetParam());
  ASSERT_TRUE(hung.connect_until([&] { return hung.passed_over(0); }));
  const auto before = hung.group.picks(0);
  const auto start = Clock::now();
  ASSERT_TRUE(hung.connect_until([&] { return hung.group.picks(0) == before + 2; }));
  EXPECT_GE(Clock::now() - start, milliseconds(1000)) << "two within a second";
  EXPECT_TRUE(hung.passed_over(0));
}

TEST_P(Hung, new_worker_in_the_slot_is_judged_anew) {
  OPEN_OR_SKIP(hung, 2, 1, GetParam());
  ASSERT_TRUE(hung.connect_until([&] { return hung.passed_over(0); }));
  hung.group.page(0).heartbeat = 0;  // as the primary leaves the page of a worker that has gone
  const auto before = hung.group.picks(0);
  ASSERT_TRUE(hung.connect());
  EXPECT_EQ(hung.group.picks(0), before + 1);
  EXPECT_FALSE(hung.passed_over(0));
}

TEST_P(Hung, new_worker_may_come_to_rest_at_the_heartbeat_at_which_the_one_before_it_hung) {
  OPEN_OR_SKIP(hung, 2, 1, GetParam());
  ASSERT_TRUE(hung.connect_until([&] { return hung.passed_over(0); }));
  hung.group.page(0).heartbeat = 0;
  hung.group.program().pardon(0);  // as the primary does when a worker has gone
  EXPECT_FALSE(hung.passed_over(0));
  while (hung.group.backlog(0) != 0) hung.group.accept(0);
  hung.group.settle(0);
  hung.group.page(0).heartbeat = 1;
  const auto before = hung.group.picks(0);
  ASSERT_TRUE(hung.connect());
  EXPECT_EQ(hung.group.picks(0), before + 1);
  EXPECT_FALSE(hung.passed_over(0));
}

}  // namespace
}  // namespace lb::test
