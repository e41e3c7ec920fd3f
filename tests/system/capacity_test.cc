// SPDX-License-Identifier: MIT
// How many workers there may be, and that all of them can be replaced at a time.
#include <cerrno>

#include "contract.hh"

namespace lb::test {
namespace {

/// Fills every slot: `count` workers that drain with clients in hand, and as many that have taken their place.
void replace_all(const char* policy, Options options, unsigned count) {
  TestCluster cluster(policy, std::move(options));
  ASSERT_TRUE(cluster.start(count, Style::watch));
  Crowd old_clients;
  old_clients.connect(cluster.address(), 3 * count);
  ASSERT_TRUE(cluster.wait_greeted(old_clients));
  for (uint32_t id = 1; id <= count; ++id) ASSERT_TRUE(cluster->drain(id));
  ASSERT_TRUE(cluster.start(count, Style::watch));

  if (cluster->workers().size() == 2 * count) {  // else one who had no client is gone already
    const auto one_more = cluster.spawn(kAnswering, answering_argument(Style::watch));
    ASSERT_FALSE(one_more);
    EXPECT_EQ(one_more.error().code, ENOSPC);
    EXPECT_EQ(std::string(one_more.error().op),
              "spawn: all " + std::to_string(2 * count) + " slots are taken, two for each of Options::workers_max");
  }
  Crowd new_clients;
  new_clients.connect(cluster.address(), count);
  new_clients.ask_all();
  EXPECT_TRUE(cluster.wait_finished(new_clients));
  if (std::string(policy) != "reuseport:hash") {  // the kernel's hash knows nothing of drains; whoever it asks serves
    for (auto& client : new_clients) EXPECT_GT(client.worker(), count) << "one that drains took it";
  }

  old_clients.ask_all();
  EXPECT_TRUE(cluster.wait_finished(old_clients));
  ASSERT_TRUE(cluster.wait_until("the old workers to leave", [&] { return cluster->workers().size() == count; }));
  ASSERT_TRUE(cluster.start(1, Style::watch)) << "a slot is free again";
  cluster.expect_clean_shutdown();
}

class Capacity : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(of, Capacity, testing::Values("shared", "reuseport", "reuseport:hash", "round-robin"), policy_test_name);

TEST_P(Capacity, all_workers_are_replaced_while_the_old_ones_drain) { replace_all(GetParam(), {.workers_max = 6}, 6); }

TEST(CapacityDefault, holds_128_workers_and_as_many_replacements) { replace_all("reuseport", {}, 128); }

TEST(CapacityDefault, workers_beyond_the_maximum_raise_it) {
  TestCluster cluster("round-robin", {.workers = 3, .workers_max = 1});
  ASSERT_TRUE(cluster.start(6, Style::blocking)) << "two slots for each of 3";
  cluster.expect_clean_shutdown();
}

TEST(CapacityDefault, maximum_out_of_range_is_an_error_that_says_what_is_allowed) {
  for (const unsigned workers_max : {0U, 257U}) {
    const auto cluster = Cluster::create({.workers_max = workers_max});
    ASSERT_FALSE(cluster);
    EXPECT_EQ(cluster.error().code, EINVAL);
    EXPECT_EQ(std::string(cluster.error().op), "Options::workers_max " + std::to_string(workers_max) + " (allowed: 1 to 256)");
  }
}

}  // namespace
}  // namespace lb::test
