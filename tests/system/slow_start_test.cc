// SPDX-License-Identifier: MIT
// A newcomer among warm workers: how much of its weight it has, and what it gets for it. "For ever" is an hour here.
#include <csignal>

#include "contract.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

constexpr std::chrono::hours kForEver{1};
constexpr std::chrono::milliseconds kSoon{200};

class SlowStart : public PolicyTest {
 protected:
  static bool by_load(const TestCluster& cluster) {
    return policy() == "round-robin:least-loaded" || cluster.endpoint().rung.rfind("eBPF", 0) == 0;
  }
  static bool wait_warm(TestCluster& cluster, uint32_t worker) {
    return cluster.wait_until("the worker to be warm", [&] { return cluster.worker(worker).weight_percent == 100; });
  }
};
INSTANTIATE_TEST_SUITE_P(by_load, SlowStart, testing::Values("reuseport", "reuseport:p2c", "round-robin:least-loaded"),
                         policy_test_name);

#define LB_SKIP_UNLESS_BY_LOAD(cluster) \
  if (!by_load(cluster)) LB_SKIP_WITHOUT_BPF(true, (cluster).endpoint().reason)

TEST_P(SlowStart, newcomer_gets_a_sixteenth_at_first) {
  TestCluster cluster(policy(), {.slow_start = kForEver});
  ASSERT_TRUE(cluster.start(1, Style::watch));
  LB_SKIP_UNLESS_BY_LOAD(cluster);
  ASSERT_TRUE(cluster.start(1, Style::watch));
  EXPECT_EQ(cluster.worker(1).weight_percent, 100u);
  EXPECT_EQ(cluster.worker(2).weight_percent, 6u);
  Crowd crowd;
  ASSERT_TRUE(cluster.hold_one_by_one(crowd, 34));
  EXPECT_NEAR(crowd.per_worker()[2], 2, 1) << shares(crowd.per_worker());
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

TEST_P(SlowStart, comes_to_an_end_with_the_whole_weight) {
  TestCluster cluster(policy(), {.slow_start = kSoon});
  ASSERT_TRUE(cluster.start(1, Style::watch));
  LB_SKIP_UNLESS_BY_LOAD(cluster);
  ASSERT_TRUE(cluster.start(1, Style::watch));
  ASSERT_TRUE(cluster->set_weight(2, 3));
  ASSERT_TRUE(wait_warm(cluster, 2));
  Crowd crowd;
  ASSERT_TRUE(cluster.hold_one_by_one(crowd, 40));
  EXPECT_NEAR(crowd.per_worker()[2], 30, 1) << shares(crowd.per_worker());
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

TEST(SlowStartRule, those_that_start_together_have_all_at_once_and_so_has_one_whom_nobody_warm_is_beside) {
  TestCluster cluster("round-robin:least-loaded", {.slow_start = kForEver});
  ASSERT_TRUE(cluster.start(2, Style::watch));
  EXPECT_EQ(cluster.worker(1).weight_percent, 100u);
  EXPECT_EQ(cluster.worker(2).weight_percent, 100u);
  ASSERT_TRUE(cluster.start(1, Style::watch));
  EXPECT_EQ(cluster.worker(3).weight_percent, 6u);
  for (const uint32_t warm : {1, 2}) {
    ASSERT_TRUE(cluster->drain(warm));
    ASSERT_TRUE(cluster.wait_exit(warm));
  }
  EXPECT_TRUE(cluster.wait_until("the last to be warm", [&] { return cluster.worker(3).weight_percent == 100; }));
  cluster.expect_clean_shutdown();
}

TEST(SlowStartRule, replacement_of_a_worker_that_crashed_starts_slowly_too) {
  TestCluster cluster("round-robin:least-loaded", {.slow_start = kForEver});
  ASSERT_TRUE(cluster.start(2, Style::watch));
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_until("the replacement", [&] { return cluster.event(Event::Kind::listening, 3) != nullptr; }));
  EXPECT_EQ(cluster.worker(2).weight_percent, 100u);
  EXPECT_EQ(cluster.worker(3).weight_percent, 6u);
  cluster.expect_clean_shutdown();
}

TEST(SlowStartRule, negative_time_is_refused) {
  const auto cluster = Cluster::create({.slow_start = std::chrono::milliseconds(-1)});
  ASSERT_FALSE(cluster);
  EXPECT_EQ(cluster.error().code, EINVAL);
}

}  // namespace
}  // namespace lb::test
