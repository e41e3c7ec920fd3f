// SPDX-License-Identifier: MIT
// reuseport:hermes with real workers: their verdicts reach the kernel, and each serves what it was given.
#include "contract.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

constexpr const char* kHermes = "reuseport:hermes";

/// The hash alone would give it a quarter of 400, standard deviation 9.
TEST(Hermes, worker_with_many_connections_gets_few_new_ones) {
  TestCluster cluster(kHermes);
  ASSERT_TRUE(cluster.start(4, Style::watch));
  LB_SKIP_WITHOUT_BPF(!cluster.has_program(), "eBPF: " + cluster.endpoint().reason);
  Crowd crowd;
  crowd.connect(cluster.address(), 80);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  const uint32_t loaded = 4;
  ASSERT_GT(crowd.per_worker()[loaded], 0u);
  for (auto& client : crowd) {
    if (client.worker() != loaded) client.leave();
  }
  ASSERT_TRUE(cluster.wait_until("the others to be idle", [&] {
    return cluster.worker(1).in_flight + cluster.worker(2).in_flight + cluster.worker(3).in_flight == 0;
  }));
  const Load load({.to = cluster.address(), .count = 400, .at_once = 1});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 400u) << load.describe();
  EXPECT_LE(load.per_worker()[loaded], 40u) << shares(load.per_worker());
  for (uint32_t id = 1; id < 4; ++id) EXPECT_GT(load.per_worker()[id], 40u) << shares(load.per_worker());
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

TEST(Hermes, each_worker_serves_what_it_was_given) {
  TestCluster cluster(kHermes);
  ASSERT_TRUE(cluster.start(4, Style::blocking));
  LB_SKIP_WITHOUT_BPF(!cluster.has_program(), "eBPF: " + cluster.endpoint().reason);
  EXPECT_FALSE(cluster.endpoint().stealing);
  const Load load({.to = cluster.address(), .count = 1000, .at_once = 32});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 1000u) << load.describe();
  for (const auto& worker : cluster.endpoint().workers) EXPECT_LE(worker.accepted, worker.picks) << cluster.describe();
  cluster.expect_clean_shutdown();
}

TEST(Hermes, comes_and_goes_under_load_without_a_loss) {
  TestCluster cluster("reuseport");
  ASSERT_TRUE(cluster.start(3, Style::watch));
  LB_SKIP_WITHOUT_BPF(!cluster.has_program(), "eBPF: " + cluster.endpoint().reason);
  const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 8});
  for (const char* policy : {kHermes, "round-robin", kHermes, "reuseport:sticky", kHermes}) {
    ASSERT_TRUE(cluster->set_policy(Policy::parse(policy).value()));
    ASSERT_TRUE(cluster.wait_until("the change of policy", [&] { return cluster.endpoint().changing.empty(); }));
    EXPECT_EQ(cluster.endpoint().effective.to_string(), Policy::parse(policy)->to_string()) << cluster.describe();
  }
  load.stop();
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.lost() + load.refused(), 0u) << load.describe();
  EXPECT_FALSE(cluster.endpoint().stealing);
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
