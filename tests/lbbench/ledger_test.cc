// SPDX-License-Identifier: MIT
#include "ledger.hh"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace lbbench {
namespace {

constexpr uint64_t kS = 1'000'000'000;

/// Worker 1 was killed after 10 s while it served, worker 2 after 20 s inside its call for a connection; worker 3 lives, and is in that call.
class LedgerTest : public testing::Test {
 protected:
  LedgerTest() {
    workers_[1].killed_ns = 10 * kS;
    workers_[2].killed_ns = 20 * kS;
    workers_[2].taking = 1;
    workers_[3].taking = 1;
  }
  Account of(const std::vector<Loss>& losses) const { return account(losses, workers_); }

  std::array<WorkerLine, 4> workers_;
};

TEST_F(LedgerTest, what_a_killed_worker_had_is_lost_with_it) {
  const auto told = of({{10 * kS + 1, 1, Outcome::reset}, {14 * kS, 1, Outcome::reset}, {21 * kS, 2, Outcome::reset}});
  EXPECT_EQ(told.with_worker, 3U);
  EXPECT_EQ(told.in_accept + told.lost.total(), 0U);
}

TEST_F(LedgerTest, what_broke_before_its_worker_was_killed_is_lost) {
  EXPECT_EQ(of({{10 * kS - 1, 1, Outcome::reset}}).lost.reset, 1U);
}

TEST_F(LedgerTest, what_a_living_worker_had_is_lost) { EXPECT_EQ(of({{30 * kS, 3, Outcome::reset}}).lost.reset, 1U); }

TEST_F(LedgerTest, a_kill_inside_the_call_explains_one_loss_that_no_code_had) {
  const auto told = of({{20 * kS + 2, 0, Outcome::reset}, {20 * kS + 1, 0, Outcome::reset}});
  EXPECT_EQ(told.in_accept, 1U);
  EXPECT_EQ(told.lost.reset, 1U);
}

TEST_F(LedgerTest, a_kill_outside_the_call_explains_none_that_no_code_had) {
  EXPECT_EQ(of({{10 * kS + 1, 0, Outcome::reset}}).lost.reset, 1U);
}

TEST_F(LedgerTest, a_kill_explains_nothing_that_broke_before_it_or_long_after) {
  EXPECT_EQ(of({{20 * kS - 1, 0, Outcome::reset}, {22 * kS, 0, Outcome::reset}}).lost.reset, 2U);
}

TEST_F(LedgerTest, no_kill_explains_a_refusal_or_a_connection_left_hanging) {
  const auto told =
      of({{20 * kS + 1, 2, Outcome::timeout}, {20 * kS + 1, 0, Outcome::refused}, {10 * kS + 1, 1, Outcome::timeout}});
  EXPECT_EQ(told.lost.timeout, 2U);
  EXPECT_EQ(told.lost.refused, 1U);
  EXPECT_EQ(told.with_worker + told.in_accept, 0U);
}

TEST_F(LedgerTest, each_loss_takes_the_earliest_kill_that_explains_it) {
  workers_[1].taking = 1;
  workers_[1].killed_ns = 21 * kS;
  EXPECT_EQ(of({{22 * kS + 1, 0, Outcome::reset}, {21 * kS + 1, 0, Outcome::reset}}).in_accept, 2U);
}

}  // namespace
}  // namespace lbbench
