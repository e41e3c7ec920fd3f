// SPDX-License-Identifier: MIT
#include "fault_result.hh"

#include <gtest/gtest.h>

#include <memory>

namespace lbbench {
namespace {

class FaultResultTest : public testing::Test {
 protected:
  FaultResultTest() {
    result_.policy = "shared";
    result_.workers = 8;
    ledger_->begun = 100;
    ledger_->completed = 90;
    ledger_->left = 7;
    ledger_->workers[5].killed_ns = 10;
    for (int i = 0; i < 3; ++i) ledger_->lose({20, 5, Outcome::reset});
    report_.early = report_.middle = report_.late = {.descriptors = 30, .memory_kib = 400};
    report_.done[static_cast<size_t>(FaultKind::kill)] = 4;
  }
  const std::vector<std::string>& trouble() {
    fill_in(result_, *ledger_, report_, 2);
    return result_.faults->trouble;
  }

  RunResult result_;
  std::unique_ptr<Ledger> ledger_ = std::make_unique<Ledger>();
  std::unique_ptr<FaultServerReport> whole_report_ = std::make_unique<FaultServerReport>();
  FaultServerReport& report_ = *whole_report_;
};

TEST_F(FaultResultTest, what_went_with_a_killed_worker_is_no_trouble) {
  EXPECT_TRUE(trouble().empty()) << trouble().front();
  EXPECT_EQ(result_.faults->with_worker, 3U);
  EXPECT_EQ(result_.lost.total(), 0U);
  EXPECT_EQ(result_.completed, 90U);
  EXPECT_DOUBLE_EQ(result_.throughput_per_s, 45);
  ASSERT_EQ(result_.faults->done.size(), 1U);
  EXPECT_EQ(result_.faults->done[0], (std::pair<std::string, uint64_t>("kills", 4)));
}

TEST_F(FaultResultTest, a_connection_that_nobody_accounts_for_is_trouble) {
  ledger_->begun = 101;
  EXPECT_EQ(trouble().size(), 1U);
}

TEST_F(FaultResultTest, a_lost_connection_is_trouble) {
  ledger_->completed = 89;
  ledger_->lose({20, 4, Outcome::reset});
  EXPECT_EQ(trouble().size(), 2U);
  EXPECT_EQ(result_.lost.reset, 1U);
}

TEST_F(FaultResultTest, losses_beyond_what_the_ledger_holds_are_lost) {
  ledger_->loss_count = Ledger::kLossesMax + 2;
  fill_in(result_, *ledger_, report_, 2);
  EXPECT_GE(result_.lost.reset, 2U);
}

TEST_F(FaultResultTest, a_primary_that_grows_is_trouble) {
  report_.late.memory_kib += kGrowthMaxKib + 1;
  EXPECT_EQ(trouble().size(), 1U);
  report_.late.descriptors += 25;
  EXPECT_EQ(trouble().size(), 2U);
}

TEST_F(FaultResultTest, anything_left_crashed_dropped_or_served_twice_is_trouble) {
  report_.left_over = 1;
  report_.crashes = 1;
  report_.dropped = 1;
  ledger_->taken_twice = 1;
  EXPECT_EQ(trouble().size(), 4U);
}

TEST_F(FaultResultTest, the_table_tells_what_was_lost_and_with_whom) {
  (void)trouble();
  const std::string text = report_faults(*find_scenario("crash"), Options{}, std::span(&result_, 1));
  EXPECT_NE(text.find("LOST"), std::string::npos);
  EXPECT_NE(text.find("4 kills"), std::string::npos);
}

}  // namespace
}  // namespace lbbench
