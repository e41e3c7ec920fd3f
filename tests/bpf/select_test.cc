// SPDX-License-Identifier: MIT
// What the program picks, on both rungs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <algorithm>
#include <chrono>
#include <tuple>

#include "reuseport_group.hh"

namespace lb::test {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Gt;
using Rung = ReuseportProgram::Rung;

/// Opens in the test's body, as the number of slots differs.
#define OPEN_OR_SKIP(opened)                                  \
  do {                                                        \
    const std::string why = opened;                           \
    if (!why.empty() && privileged_required()) FAIL() << why; \
    if (!why.empty()) GTEST_SKIP() << why;                    \
  } while (false)

/// The program weighs few slots all at once, and many in other ways: each test with as few as it needs, and with vacant ones beyond.
class Select : public ::testing::TestWithParam<std::tuple<Rung, uint32_t>> {
 protected:
  ReuseportGroup group;

  Rung rung() const { return std::get<0>(GetParam()); }
  std::string open(ReuseportGroup& opened, uint32_t slots) const {
    auto why = opened.open(slots, rung());
    if (why.empty()) opened.settings().slot_count = std::min<uint32_t>(slots + std::get<1>(GetParam()), LB_MAX_SLOTS);
    return why;
  }
};

std::string rung_name(const ::testing::TestParamInfo<std::tuple<Rung, uint32_t>>& info) {
  const auto& [rung, vacant] = info.param;
  return (rung == Rung::kernel_backlog ? "kernel_backlog" : "in_flight") + std::string(vacant > 0 ? "_among_many" : "");
}

INSTANTIATE_TEST_SUITE_P(Rungs, Select,
                         ::testing::Combine(::testing::Values(Rung::kernel_backlog, Rung::in_flight), ::testing::Values(0, 70)),
                         rung_name);

TEST_P(Select, connection_arrives_at_the_picked_slot) {
  OPEN_OR_SKIP(open(group, 4));
  for (uint32_t slot : {0, 1, 3}) group.page(slot).in_flight = 9;
  ASSERT_GE(group.connect(), 0);
  EXPECT_TRUE(group.accept(2));
  EXPECT_THAT(group.all_picks(), ElementsAre(0, 0, 1, 0));
}

TEST_P(Select, least_loaded_avoids_slots_with_connections_in_flight) {
  OPEN_OR_SKIP(open(group, 4));
  group.page(1).in_flight = 100;
  group.page(2).in_flight = 100;
  ASSERT_TRUE(group.connect_many(20));
  EXPECT_THAT(group.all_picks(), ElementsAre(10, 0, 0, 10));
}

TEST_P(Select, reported_load_counts_like_connections) {
  OPEN_OR_SKIP(open(group, 2));
  group.page(0).reported = 100;
  ASSERT_TRUE(group.connect_many(20));
  EXPECT_THAT(group.all_picks(), ElementsAre(0, 20));
}

TEST_P(Select, ended_connections_make_a_slot_attractive_again) {
  OPEN_OR_SKIP(open(group, 2));
  group.page(0).in_flight = 100;
  ASSERT_TRUE(group.connect_many(5));
  group.page(0).in_flight = 0;
  group.page(1).in_flight = 100;
  ASSERT_TRUE(group.connect_many(7));
  EXPECT_THAT(group.all_picks(), ElementsAre(7, 5));
}

// The low rung forgets half of its own picks after 100 ms, so there the connects are repeated until they were faster.
TEST_P(Select, pick_counts_at_once) {
  for (int attempt = 0; attempt < 20; attempt++) {
    ReuseportGroup fresh;
    OPEN_OR_SKIP(open(fresh, 8));
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(fresh.connect_many(64));
    const bool decayed = std::chrono::steady_clock::now() - start > std::chrono::milliseconds(95);
    if (decayed && rung() == Rung::in_flight) continue;
    EXPECT_THAT(fresh.all_picks(), Each(8));
    return;
  }
  GTEST_SKIP() << "64 connects took 100 ms, 20 times";
}

TEST_P(Select, accepted_and_settled_connections_stop_counting) {
  OPEN_OR_SKIP(open(group, 2));
  group.set_ready(1, false);
  ASSERT_TRUE(group.connect_many(10));
  for (int i = 0; i < 10; i++) ASSERT_TRUE(group.accept(0));
  group.settle(0);
  group.set_ready(1, true);
  group.page(1).in_flight = 1;
  ASSERT_TRUE(group.connect_many(1));
  EXPECT_EQ(group.picks(0), 11u);
}

TEST_P(Select, slot_that_is_not_ready_gets_nothing) {
  OPEN_OR_SKIP(open(group, 4));
  group.set_ready(2, false);
  ASSERT_TRUE(group.connect_many(40));
  EXPECT_EQ(group.picks(2), 0u);
  EXPECT_EQ(group.exits(LB_EXIT_PICKED), 40u);
}

TEST_P(Select, slot_beyond_slot_count_gets_nothing) {
  OPEN_OR_SKIP(open(group, 4));
  group.settings().slot_count = 2;
  ASSERT_TRUE(group.connect_many(40));
  EXPECT_EQ(group.picks(2) + group.picks(3), 0u);
}

TEST_P(Select, last_slot_of_all_can_be_picked) {
  OPEN_OR_SKIP(open(group, LB_MAX_SLOTS));
  for (__u64& word : group.settings().ready) word = 0;
  group.set_ready(1, true);
  group.set_ready(LB_MAX_SLOTS - 1, true);
  group.page(1).in_flight = 100;
  ASSERT_TRUE(group.connect_many(5));
  EXPECT_EQ(group.picks(LB_MAX_SLOTS - 1), 5u);
}

TEST_P(Select, only_ready_slot_gets_all) {
  OPEN_OR_SKIP(open(group, 4));
  for (uint32_t slot : {0, 1, 3}) group.set_ready(slot, false);
  group.page(2).in_flight = 1000;
  ASSERT_TRUE(group.connect_many(10));
  EXPECT_EQ(group.picks(2), 10u);
  EXPECT_EQ(group.exits(LB_EXIT_SINGLE), 10u);
}

TEST_P(Select, slot_0_queues_when_none_is_ready) {
  OPEN_OR_SKIP(open(group, 4));
  for (uint32_t slot = 0; slot < 4; slot++) group.set_ready(slot, false);
  ASSERT_TRUE(group.connect_many(10));
  for (int i = 0; i < 10; i++) EXPECT_TRUE(group.accept(0));
  EXPECT_EQ(group.exits(LB_EXIT_NO_READY), 10u);
}

TEST_P(Select, load_is_shared_by_weight) {
  OPEN_OR_SKIP(open(group, 3));
  for (uint32_t slot = 0; slot < 3; slot++) group.settings().weight[slot] = static_cast<uint16_t>(slot + 1);
  group.settings().weight[0] = 0;  // counts as 1
  for (int i = 0; i < 60; i++) {
    const auto before = group.all_picks();
    ASSERT_GE(group.connect(), 0);
    for (uint32_t slot = 0; slot < 3; slot++) {
      if (group.picks(slot) == before[slot]) continue;
      ASSERT_TRUE(group.accept(slot));
      group.settle(slot);
      group.page(slot).in_flight++;
    }
  }
  EXPECT_THAT(group.all_picks(), ElementsAre(10, 20, 30));
}

TEST_P(Select, fractions_of_a_weight_decide) {
  OPEN_OR_SKIP(open(group, 2));
  group.settings().weight[0] = 1000;
  group.settings().weight[1] = 1001;
  group.page(0).in_flight = 500;
  group.page(1).in_flight = 500;
  ASSERT_TRUE(group.connect_many(1));
  EXPECT_EQ(group.picks(1), 1u);
}

TEST_P(Select, nonsense_in_flight_harms_only_its_own_slot) {
  OPEN_OR_SKIP(open(group, 4));
  group.page(1).in_flight = UINT32_MAX;
  group.page(1).reported = UINT32_MAX;
  group.page(1).cells[0].settled = 0x80000001u;
  ASSERT_TRUE(group.connect_many(30));
  EXPECT_THAT(group.all_picks(), ElementsAre(10, 0, 10, 10));
}

TEST_P(Select, nonsense_settings_do_not_refuse_connections) {
  OPEN_OR_SKIP(open(group, 2));
  group.settings().slot_count = UINT32_MAX;
  group.settings().endpoint = UINT32_MAX;
  group.settings().selector = UINT32_MAX;
  for (__u64& word : group.settings().ready) word = UINT64_MAX;
  ASSERT_TRUE(group.connect_many(20));
  // Slots without a socket are ready, too: the top rung sees that, and on the other the kernel's hash has a part in it.
  EXPECT_EQ(group.exits(LB_EXIT_PICKED) + group.exits(LB_EXIT_SELECT_FAILED), 20u);
  EXPECT_EQ(group.picks(0) + group.picks(1), group.exits(LB_EXIT_PICKED));
  EXPECT_GE(group.exits(LB_EXIT_PICKED), rung() == Rung::kernel_backlog ? 20u : 0u);
}

// 1,600 picks over 4 idle slots of 8: each is at 400, standard deviation 17. Six of them, and the gap makes no difference.
TEST_P(Select, ties_are_spread_at_random) {
  OPEN_OR_SKIP(open(group, 8));
  for (uint32_t slot : {1, 2, 3, 5}) group.page(slot).in_flight = 10;
  for (int i = 0; i < 1600; i++) {
    ASSERT_GE(group.connect(), 0);
    for (uint32_t slot : {0, 4, 6, 7}) {
      if (group.backlog(slot) == 0) continue;
      ASSERT_TRUE(group.accept(slot));
    }
    for (uint32_t slot : {0, 4, 6, 7}) group.settle(slot);
    group.hang_up();
  }
  for (uint32_t slot : {0, 4, 6, 7}) EXPECT_NEAR(static_cast<double>(group.picks(slot)), 400, 104) << slot;
}

TEST_P(Select, p2c_takes_the_less_loaded_of_two) {
  OPEN_OR_SKIP(open(group, 2));
  group.settings().selector = LB_SELECT_P2C;
  group.page(0).in_flight = 1000;
  ASSERT_TRUE(group.connect_many(50));
  EXPECT_THAT(group.all_picks(), ElementsAre(0, 50));
}

TEST_P(Select, p2c_never_picks_the_most_loaded_of_many) {
  OPEN_OR_SKIP(open(group, 8));
  group.settings().selector = LB_SELECT_P2C;
  group.page(3).in_flight = 1000;
  ASSERT_TRUE(group.connect_many(300));
  const auto picks = group.all_picks();
  for (uint32_t slot = 0; slot < 8; slot++) {
    if (slot == 3)
      EXPECT_EQ(picks[slot], 0u);
    else
      EXPECT_GT(picks[slot], 0u);
  }
}

TEST_P(Select, random_ignores_load) {
  OPEN_OR_SKIP(open(group, 4));
  group.settings().selector = LB_SELECT_RANDOM;
  group.page(0).in_flight = 1000;
  ASSERT_TRUE(group.connect_many(200));
  EXPECT_THAT(group.all_picks(), Each(Gt(0u)));
}

TEST_P(Select, change_of_selector_takes_effect_with_the_next_pick) {
  OPEN_OR_SKIP(open(group, 4));
  for (uint32_t slot : {0, 1, 2}) group.page(slot).in_flight = 1000;
  ASSERT_TRUE(group.connect_many(100));
  EXPECT_EQ(group.picks(3), 100u);
  group.settings().selector = LB_SELECT_RANDOM;
  ASSERT_TRUE(group.connect_many(200));
  EXPECT_THAT(group.all_picks(), Each(Gt(0u)));
}

TEST_P(Select, closed_listener_leaves_its_queue_to_a_ready_slot) {
  OPEN_OR_SKIP(open(group, 3));
  for (uint32_t slot : {1, 2}) group.page(slot).in_flight = 1000;
  ASSERT_TRUE(group.connect_many(5));
  while (group.backlog(0) < 5) ::sched_yield();
  group.set_ready(0, false);
  group.set_ready(1, false);
  ASSERT_EQ(::shutdown(group.listener(0), SHUT_RDWR), 0);
  for (int i = 0; i < 5; i++) EXPECT_TRUE(group.accept(2)) << i;
  EXPECT_EQ(group.exits(LB_EXIT_MIGRATED), 5u);
}

// Of the whole queue and of handshakes that end only afterwards nothing is reset, and who waits at the new home is woken: an
// edge-triggered epoll instance tells nothing else.
TEST_P(Select, closed_listener_loses_neither_its_queue_nor_its_handshakes_and_the_new_home_is_woken) {
  constexpr int kQueued = 20;
  OPEN_OR_SKIP(open(group, 3));
  for (uint32_t slot : {1, 2}) group.page(slot).in_flight = 1000;
  ASSERT_TRUE(group.connect_many(kQueued));
  while (group.backlog(0) < kQueued) ::sched_yield();
  const int patience_s = 30;  // from now on a handshake is over when the client has said something
  ASSERT_EQ(::setsockopt(group.listener(0), IPPROTO_TCP, TCP_DEFER_ACCEPT, &patience_s, sizeof(patience_s)), 0);
  std::vector<int> half_open;
  for (int i = 0; i < kQueued; i++) half_open.push_back(group.connect());
  ASSERT_EQ(group.backlog(0), static_cast<uint32_t>(kQueued));
  UniqueFd waiting(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{EPOLLIN | EPOLLET, {}};
  ASSERT_EQ(::epoll_ctl(waiting.get(), EPOLL_CTL_ADD, group.listener(2), &event), 0);
  ASSERT_EQ(::epoll_wait(waiting.get(), &event, 1, 0), 0);

  group.set_ready(0, false);
  group.set_ready(1, false);
  ASSERT_EQ(::shutdown(group.listener(0), SHUT_RDWR), 0);
  EXPECT_EQ(::epoll_wait(waiting.get(), &event, 1, 0), 1) << "nobody is woken by a migration here (Linux before 3864c6b)";
  for (const int client : half_open) EXPECT_EQ(::send(client, "x", 1, MSG_NOSIGNAL), 1);
  for (int i = 0; i < 2 * kQueued; i++) EXPECT_TRUE(group.accept(2)) << i;
  EXPECT_EQ(group.exits(LB_EXIT_MIGRATED), static_cast<uint64_t>(2 * kQueued));
}

TEST_P(Select, queue_of_a_closed_listener_is_spread_by_load) {
  OPEN_OR_SKIP(open(group, 3));
  for (uint32_t slot : {1, 2}) group.page(slot).in_flight = 1000;
  ASSERT_TRUE(group.connect_many(6));
  while (group.backlog(0) < 6) ::sched_yield();
  group.set_ready(0, false);
  ASSERT_EQ(::shutdown(group.listener(0), SHUT_RDWR), 0);
  EXPECT_EQ(group.backlog(1), 3u);
  EXPECT_EQ(group.backlog(2), 3u);
}

TEST_P(Select, reset_to_no_connection_is_not_a_pick) {
  OPEN_OR_SKIP(open(group, 2));
  const int client = group.connect();
  ASSERT_GE(client, 0);
  UniqueFd connection = group.accept(group.picks(0) ? 0 : 1);
  ASSERT_TRUE(connection);
  const int on = 1;  // closing a socket under repair sends nothing, so that the client's reset finds only the listeners
  if (::setsockopt(connection.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) != 0) GTEST_SKIP() << "needs CAP_NET_ADMIN";
  connection.reset();
  const linger at_once{1, 0};
  ASSERT_EQ(::setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
  group.hang_up();
  EXPECT_EQ(group.exits(LB_EXIT_STRAY), 1u);
  EXPECT_EQ(group.picks(0) + group.picks(1), 1u);
}

TEST_P(Select, each_pick_is_dated) {
  OPEN_OR_SKIP(open(group, 1));
  const auto now = [] {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint32_t>((static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec)) >> 10);
  };
  for (uint32_t i = 0; i < LB_PICK_TIMES + 3; i++) {  // the ring wraps
    const uint32_t before = now();
    ASSERT_TRUE(group.connect_many(1));
    const uint32_t made_at = group.program().picks()[0].made_at[i % LB_PICK_TIMES];
    EXPECT_LE(made_at - before, now() - before) << "pick " << i;
  }
}

class ScoreboardRung : public ::testing::Test {
 protected:
  ReuseportGroup group;
};

// A handshake that is never finished, or a connection that is gone before it is accepted, is settled by nobody.
TEST_F(ScoreboardRung, picks_that_nobody_settles_stop_counting) {
  OPEN_OR_SKIP(group.open(2, Rung::in_flight));
  group.set_ready(1, false);
  ASSERT_TRUE(group.connect_many(16));
  group.set_ready(1, true);
  group.page(1).in_flight = 4;
  for (int i = 0; i < 2000 && group.picks(0) == 16; i++) {
    group.settle(1);
    ASSERT_GE(group.connect(), 0);
    ::poll(nullptr, 0, 5);  // time has to pass here
  }
  EXPECT_EQ(group.picks(0), 17u);
}

TEST_F(ScoreboardRung, late_settling_does_not_hide_the_next_picks) {
  OPEN_OR_SKIP(group.open(2, Rung::in_flight));
  group.set_ready(1, false);
  ASSERT_TRUE(group.connect_many(16));
  group.set_ready(1, true);
  group.page(1).in_flight = 4;
  for (int i = 0; i < 2000 && group.picks(0) == 16; i++) {
    group.settle(1);
    ASSERT_GE(group.connect(), 0);
    ::poll(nullptr, 0, 5);
  }
  group.settle(0);  // the worker took them after all, long after most were written off
  group.settle(1);
  group.page(1).in_flight = 1;
  const uint64_t before = group.picks(0);
  ASSERT_TRUE(group.connect_many(1));
  ASSERT_EQ(group.picks(0), before + 1);
  group.page(1).in_flight = 0;
  ASSERT_TRUE(group.connect_many(1));
  EXPECT_EQ(group.picks(0), before + 1) << "the pending pick of slot 0 did not count";
}

TEST_F(ScoreboardRung, counters_may_wrap) {
  OPEN_OR_SKIP(group.open(2, Rung::in_flight));
  group.page(0).cells[0].settled = UINT32_MAX - 2;  // 3 pending, modulo 2^32
  group.page(1).in_flight = 4;
  ASSERT_TRUE(group.connect_many(1));
  EXPECT_EQ(group.picks(0), 1u);
}

}  // namespace
}  // namespace lb::test
