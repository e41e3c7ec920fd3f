// SPDX-License-Identifier: MIT
// The three filters of reuseport:hermes, on pages that the test writes in the workers' stead.
#include <gtest/gtest.h>

#include "worker/hermes.hh"

namespace lb {
namespace {

constexpr uint32_t kSlots = 130;  // three groups
constexpr uint64_t kNow_ns = uint64_t{1} << 40;
constexpr uint64_t kLong_ns = 1'000'000'000;

uint64_t bits(std::initializer_list<uint32_t> slots) {
  uint64_t result = 0;
  for (const uint32_t slot : slots) result |= uint64_t{1} << (slot % 64);
  return result;
}

class HermesFilter : public testing::Test {
 protected:
  void SetUp() override {
    picks_ = Mapping::map(picks_fd_.get(), kPicksSize, 0, true).value();
    queues_ = SlotQueues(Mapping::map(picks_fd_.get(), kPicksSize, 0, false).value(),
                         Mapping::map(taken_fd_.get(), kTakenSize, 0, true).value());
    for (uint32_t slot = 0; slot < 4; ++slot) join(slot);
  }

  lb_hermes& hermes(uint32_t slot) { return board_.page(slot).hermes; }
  void join(uint32_t slot) {
    board_.page(slot).heartbeat = 1;
    hermes(slot).entered_ns = kNow_ns - 1000;
  }
  /// The program sends the slot a connection.
  void pick(uint32_t slot, uint64_t at_ns) {
    auto& its = static_cast<lb_slot_picks*>(picks_.get())[slot];
    its.made_at[its.picks++ % LB_PICK_TIMES] = static_cast<uint32_t>(at_ns >> 10);
  }
  uint64_t verdict(uint32_t first = 0) { return hermes_verdict(board_, queues_, first, kNow_ns); }

  static constexpr size_t kPicksSize = LB_MAX_SLOTS * sizeof(lb_slot_picks);
  static constexpr size_t kTakenSize = LB_MAX_SLOTS * sizeof(lb_slot_taken);
  UniqueFd picks_fd_ = make_memory("picks", kPicksSize).value();
  UniqueFd taken_fd_ = make_memory("taken", kTakenSize).value();
  Mapping picks_;
  SlotQueues queues_;
  Scoreboard board_ = Scoreboard::create(UniqueFd(), kSlots).value();
};

TEST_F(HermesFilter, all_pass_who_have_nothing) { EXPECT_EQ(verdict(), bits({0, 1, 2, 3})); }

TEST_F(HermesFilter, all_pass_who_have_the_same) {
  for (uint32_t slot = 0; slot < 4; ++slot) {
    board_.page(slot).in_flight = 7;
    hermes(slot).events = 3;
  }
  EXPECT_EQ(verdict(), bits({0, 1, 2, 3}));
}

TEST_F(HermesFilter, who_has_not_come_for_long_has_hung) {
  hermes(2).entered_ns = kNow_ns - kLong_ns;
  EXPECT_EQ(verdict(), bits({0, 1, 3}));
}

TEST_F(HermesFilter, who_rests_is_alive_however_long) {
  hermes(2).entered_ns = 1;
  hermes(2).rests = 1;
  EXPECT_EQ(verdict(), bits({0, 1, 2, 3}));
  pick(2, kNow_ns - 1'000'000);
  EXPECT_EQ(verdict(), bits({0, 1, 2, 3})) << "it has hardly had the time to wake";
}

TEST_F(HermesFilter, who_sleeps_since_before_hermes_was_chosen_is_alive) {
  hermes(2) = {};
  EXPECT_EQ(verdict(), bits({0, 1, 2, 3}));
  pick(2, kNow_ns - kLong_ns);
  EXPECT_EQ(verdict(), bits({0, 1, 3}));
}

TEST_F(HermesFilter, who_does_not_wake_for_its_connection_has_hung) {
  hermes(2).rests = 1;
  pick(2, kNow_ns - kLong_ns);
  pick(2, kNow_ns);
  EXPECT_EQ(verdict(), bits({0, 1, 3}));
  queues_.count_taken(2);
  EXPECT_EQ(verdict(), bits({0, 1, 2, 3})) << "the other one is new";
}

TEST_F(HermesFilter, connections_of_one_and_a_half_times_the_average_are_too_many) {
  for (const auto& [slot, count] : {std::pair{0U, 8U}, {1U, 11U}, {2U, 9U}, {3U, 4U}})
    board_.page(slot).in_flight = count;  // 8 on average
  EXPECT_EQ(verdict(), bits({0, 1, 2, 3}));
  board_.page(1).in_flight = 14;
  board_.page(3).in_flight = 1;
  EXPECT_EQ(verdict(), bits({0, 2, 3}));
  board_.page(1).in_flight = 12 | LB_RING_WHEN_LESS;
  board_.page(3).in_flight = 3;
  EXPECT_EQ(verdict(), bits({0, 2, 3})) << "12 of 8 is the border";
}

TEST_F(HermesFilter, events_are_averaged_over_those_who_have_not_too_many_connections) {
  board_.page(0).in_flight = 100;
  hermes(0).events = 100;
  for (const auto& [slot, events] : {std::pair{1U, 1U}, {2U, 1U}, {3U, 4U}})
    hermes(slot).events = events;  // 2 on average, without slot 0
  EXPECT_EQ(verdict(), bits({1, 2}));
}

TEST_F(HermesFilter, who_is_not_there_or_leaves_is_neither_let_through_nor_counted) {
  for (uint32_t slot = 0; slot < 4; ++slot) board_.page(slot).in_flight = slot == 0 ? 5 : 4;
  board_.page(2).heartbeat = 0;
  board_.page(2).in_flight = 0;
  board_.set_leaving(3, true);
  board_.page(3).in_flight = 0;  // with these two slot 0 would have twice the average
  EXPECT_EQ(verdict(), bits({0, 1}));
}

TEST_F(HermesFilter, each_64_slots_are_judged_by_themselves) {
  for (const uint32_t slot : {64U, 65U, 127U, 128U, 129U}) {
    join(slot);
    board_.page(slot).in_flight = 1000 + slot;
  }
  hermes(65).entered_ns = kNow_ns - kLong_ns;
  EXPECT_EQ(verdict(0), bits({0, 1, 2, 3}));
  EXPECT_EQ(verdict(64), bits({64, 127}));
  EXPECT_EQ(verdict(128), bits({128, 129})) << "the board ends here";
}

TEST_F(HermesFilter, nonsense_on_a_page_leaves_out_nobody_else) {
  board_.page(1).in_flight = UINT32_MAX;
  hermes(1) = {UINT64_MAX, UINT32_MAX, UINT32_MAX, UINT64_MAX, UINT64_MAX, {}};
  board_.page(2).in_flight = 3;
  EXPECT_EQ(verdict(), bits({0, 2, 3}));
}

TEST_F(HermesFilter, worker_says_what_it_is_at_and_whom_it_would_let_through) {
  Workplace place;
  place.board = std::move(board_);
  place.slot = 1;
  lb_worker_page& page = place.page();
  for (const uint32_t slot : {0U, 2U, 3U}) place.board.page(slot).hermes.rests = 1;
  Hermes worker(place, queues_);
  pick(1, kNow_ns);
  pick(1, kNow_ns);
  page.in_flight = 1;
  page.reported = 5;
  const uint64_t before = now_ns();
  worker.took();
  EXPECT_GE(page.hermes.entered_ns, before);
  EXPECT_GE(page.hermes.decided_ns, before);
  EXPECT_EQ(page.hermes.events, 1u + 2u + 5u);
  EXPECT_EQ(page.hermes.rests, 0u);
  EXPECT_EQ(page.hermes.passed, bits({0, 2, 3}));
  page.in_flight = page.reported = 0;
  queues_.write_off(1);
  worker.rests();
  EXPECT_EQ(page.hermes.events, 0u);
  EXPECT_NE(page.hermes.rests, 0u);
  EXPECT_EQ(page.hermes.passed, bits({0, 1, 2, 3}));
  worker.leave();
  EXPECT_EQ(page.hermes.entered_ns, 0u);
  EXPECT_EQ(page.hermes.decided_ns, 0u) << "its word is no longer heard";
}

}  // namespace
}  // namespace lb
