// SPDX-License-Identifier: MIT
// Load beyond the number of connections: what the primary says that a worker can take, and what the worker says that it has to do.
#include <cerrno>
#include <csignal>

#include "contract.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

/// A worker that reports this much load and then answers.
WorkerFunction reporting(uint32_t load, Board& board) {
  return [load, &board](Worker& worker) {
    worker.report_load(load);
    return answering(Style::watch, board)(worker);
  };
}

/// Policies by which connections go to the least loaded; of two workers, the two that p2c draws are all.
class Weight : public PolicyTest {
 protected:
  static bool by_load(const TestCluster& cluster) {
    return policy() == "round-robin:least-loaded" || cluster.endpoint().rung.rfind("eBPF", 0) == 0;
  }
};
INSTANTIATE_TEST_SUITE_P(by_load, Weight, testing::Values("reuseport", "reuseport:p2c", "round-robin:least-loaded"),
                         policy_test_name);

#define LB_SKIP_UNLESS_BY_LOAD(cluster) \
  if (!by_load(cluster)) LB_SKIP_WITHOUT_BPF(true, (cluster).endpoint().reason)

TEST_P(Weight, held_connections_are_shared_out_in_proportion) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::watch));
  LB_SKIP_UNLESS_BY_LOAD(cluster);
  ASSERT_TRUE(cluster->set_weight(1, 3));
  EXPECT_EQ(cluster.worker(1).weight, 3);
  Crowd crowd;
  ASSERT_TRUE(cluster.hold_one_by_one(crowd, 40));
  EXPECT_NEAR(crowd.per_worker()[1], 30, 1) << shares(crowd.per_worker());
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

TEST_P(Weight, is_kept_by_the_replacement_of_a_worker_that_crashed) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::watch));
  LB_SKIP_UNLESS_BY_LOAD(cluster);
  ASSERT_TRUE(cluster->set_weight(1, 3));
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_until("the replacement", [&] { return cluster.event(Event::Kind::listening, 3) != nullptr; }));
  EXPECT_EQ(cluster.worker(3).weight, 3);
  Crowd crowd;
  ASSERT_TRUE(cluster.hold_one_by_one(crowd, 40));
  EXPECT_NEAR(crowd.per_worker()[3], 30, 1) << shares(crowd.per_worker());
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

TEST_P(Weight, reported_load_counts_like_connections) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, reporting(10, cluster.board())));
  ASSERT_TRUE(cluster.start(1, Style::watch));
  LB_SKIP_UNLESS_BY_LOAD(cluster);
  EXPECT_EQ(cluster.worker(1).reported, 10u);
  Crowd crowd;
  ASSERT_TRUE(cluster.hold_one_by_one(crowd, 30));
  EXPECT_NEAR(crowd.per_worker()[1], 10, 1) << shares(crowd.per_worker());
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

TEST_P(Weight, nonsense_that_a_worker_reports_keeps_connections_from_itself_alone) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, reporting(UINT32_MAX, cluster.board())));
  ASSERT_TRUE(cluster.start(2, Style::watch));
  LB_SKIP_UNLESS_BY_LOAD(cluster);
  Crowd crowd;
  ASSERT_TRUE(cluster.hold_one_by_one(crowd, 20));
  EXPECT_EQ(max_over_mean(crowd.per_worker(), 1, 1), 0)
      << "p2c never takes the worse of two either: " << shares(crowd.per_worker());
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

TEST(WeightErrors, name_the_worker_and_what_is_allowed) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(1, Style::watch));
  const auto zero = cluster->set_weight(1, 0);
  ASSERT_FALSE(zero);
  EXPECT_EQ(zero.error().code, EINVAL);
  EXPECT_STREQ(zero.error().op, "weight of worker 1: 0 (allowed: 1 to 65535)");
  const auto nobody = cluster->set_weight(7, 2);
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code, ESRCH);
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
