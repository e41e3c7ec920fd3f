// SPDX-License-Identifier: MIT
// A primary hands over to a new one that it executes: this program over again, which the board tells how to behave.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "contract.hh"
#include "isolation.hh"
#include "upgradable.hh"

namespace lb::test {
namespace {

class Upgrade : public PolicyTest {};
LB_FOR_EVERY_POLICY(Upgrade);

TEST_P(Upgrade, sigusr2_under_load_hands_over_and_no_connection_is_lost) {
  UpgradableServer server(policy());
  UpgradeClients clients(server);
  server.upgrade();
  ASSERT_TRUE(server.wait_flag(kTookOver, 1));
  EXPECT_EQ(server.wait(), 0) << server.error();
  clients.more();
  clients.stop();
  EXPECT_TRUE(server.says("has taken over")) << server.error();
  EXPECT_EQ(server.end(), 0) << server.error();
}

/// Every ordered pair of backends.
class UpgradeTo : public testing::TestWithParam<std::pair<uint32_t, uint32_t>> {};
INSTANTIATE_TEST_SUITE_P(every, UpgradeTo,
                         testing::Values(std::pair(0, 1), std::pair(0, 5), std::pair(1, 0), std::pair(1, 5), std::pair(5, 0),
                                         std::pair(5, 1), std::pair(3, 0)),
                         [](const auto& pair) {
                           return test_name(std::string(kPolicies[pair.param.first]) + "_to_" + kPolicies[pair.param.second]);
                         });

TEST_P(UpgradeTo, another_policy_under_load_loses_no_connection) {
  UpgradableServer server(kPolicies[GetParam().first]);
  server.board().flag[kNextPolicy] = GetParam().second + 1;
  UpgradeClients clients(server);
  server.upgrade();
  ASSERT_TRUE(server.wait_flag(kTookOver, 1));
  EXPECT_EQ(server.wait(), 0) << server.error();
  clients.more();
  clients.stop();
  server.signal(SIGUSR1);
  const std::string policy = Policy::parse(kPolicies[GetParam().second])->to_string();
  const std::string backend = policy.substr(0, policy.find(':'));  // not every build has every selector
  EXPECT_TRUE(wait_until("the status", [&] { return server.says("policy " + backend); })) << server.error();
  EXPECT_EQ(server.end(), 0) << server.error();
}

/// A new program that is no good.
class UpgradeFails : public testing::TestWithParam<std::tuple<const char*, Behaviour>> {};
constexpr const char* kBehaviours[] = {"good", "exits", "hangs", "worker_fails", "aborts_as_its_workers_listen", "slow"};
INSTANTIATE_TEST_SUITE_P(
    every, UpgradeFails,
    testing::Combine(testing::Values("shared", "reuseport", "reuseport:random", "reuseport:hash", "round-robin"),
                     testing::Values(kExits, kHangs, kWorkerFails, kAborts)),
    [](const auto& setting) {
      return test_name(std::string(std::get<0>(setting.param)) + "_" + kBehaviours[std::get<1>(setting.param)]);
    });

TEST_P(UpgradeFails, and_the_old_one_serves_on_without_a_loss) {
  const auto [policy, next] = GetParam();
  UpgradableServer server(policy, kAnyPort, next);
  const pid_t old = server.pid();
  {
    (void)server.address();
    std::optional<UpgradeClients> clients;
    if (next != kHangs) clients.emplace(server);  // that one takes longer than a load lasts
    server.upgrade();
    ASSERT_TRUE(server.wait_flag(kFailed, 1));
    if (!clients) clients.emplace(server);
    clients->more();
    clients->stop();
  }
  EXPECT_TRUE(server.says("is no good")) << server.error();
  // And a good one is as welcome as ever.
  server.board().flag[kNext] = kGood;
  uint32_t failed = 0;
  ASSERT_TRUE(wait_until("the upgrade", [&] {
    if (server.board().flag[kTookOver] != 0) return true;
    const uint32_t now = server.board().flag[kFailed];  // again, if a busy machine takes longer than the short deadline
    if (failed != now) ::kill(old, SIGUSR2);
    failed = now;
    return false;
  })) << server.error();
  EXPECT_EQ(server.wait(), 0) << server.error();
  EXPECT_EQ(server.end(), 0) << server.error();
}

/// LB_UPGRADES: how many, for a longer run than the tests' own.
unsigned upgrades() {
  const char* many = std::getenv("LB_UPGRADES");
  return many != nullptr ? static_cast<unsigned>(std::max(1, std::atoi(many))) : 2;
}

class UpgradeAgain : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(every, UpgradeAgain, testing::Values("shared", "reuseport", "reuseport:hash", "round-robin"),
                         [](const auto& policy) { return test_name(policy.param); });

TEST_P(UpgradeAgain, and_again_under_load_loses_no_connection) {
  UpgradableServer server(GetParam());
  pid_t old = server.pid();
  unsigned answered = 0;
  unsigned failed = 0;
  for (uint32_t i = 1; i <= upgrades(); ++i) {
    UpgradeClients clients(server);
    server.upgrade();
    ASSERT_TRUE(server.wait_flag(kTookOver, i));
    EXPECT_EQ(server.wait(old), 0) << server.error();
    old = server.newest();
    clients.more();
    clients.stop();
    answered += clients.answered();
    failed += clients.failed();
  }
  std::printf("%s: %u upgrades, %u connections, %u lost or refused\n", GetParam(), upgrades(), answered, failed);
  EXPECT_EQ(server.end(), 0) << server.error();
}

TEST_P(UpgradeAgain, while_workers_are_killed_loses_only_what_they_had_accepted) {
  UpgradableServer server(GetParam());
  unsigned kills = 0;
  const auto kill_one = [&](pid_t of) {
    const auto workers = children(of, server.newest());
    if (workers.empty()) return;
    ::kill(workers.front(), SIGKILL);
    ++kills;
    EXPECT_TRUE(wait_until("the killed worker to be missed", [&] {
      const auto left = children(of, server.newest());
      return std::find(left.begin(), left.end(), workers.front()) == left.end();
    }));
  };
  const pid_t old = server.pid();
  UpgradeClients clients(server);
  server.upgrade();
  kill_one(old);
  ASSERT_TRUE(server.wait_flag(kAsking, kUpgradeWorkers));
  kill_one(old);
  ASSERT_TRUE(server.wait_flag(kTookOver, 1));
  kill_one(server.newest());
  clients.more();
  kill_one(server.newest());
  clients.more();
  clients.stop(kills);
  EXPECT_GE(kills, 3u);
  EXPECT_EQ(server.wait(old), 0) << server.error();
  EXPECT_EQ(server.end(), 0) << server.error();
}

TEST(UpgradeAlone, primary_whose_last_worker_has_gone_waits_for_the_new_one) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(1, Style::watch));
  Command next;
  next.path = "/bin/sleep";
  next.args = {"1000"};
  ASSERT_TRUE(cluster->upgrade(next));
  ASSERT_TRUE(cluster->drain(1));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_FALSE(cluster->done());
  EXPECT_EQ(cluster.count(Event::Kind::upgrade_failed), 0u) << cluster.describe();
  cluster.expect_clean_shutdown();
}

TEST(UpgradeAlone, arguments_that_cannot_be_read_are_an_error_that_says_so) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(1, Style::watch));
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit_descriptors(::getpid(), 0);
  const auto refused = cluster->upgrade();
  limit_descriptors(::getpid(), limit.rlim_cur);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("/proc/self/cmdline"), std::string::npos) << refused.error().message();
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
