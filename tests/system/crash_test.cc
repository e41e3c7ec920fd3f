// SPDX-License-Identifier: MIT
// What a crashing worker costs: the connections it had accepted, and nothing else.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>

#include "contract.hh"

namespace lb::test {
namespace {

class Crash : public KindTest {};
LB_FOR_EVERY_POLICY_AND_PROCESS_KIND(Crash);

/// Two workers, each busy with one client, and others that wait: kills worker 1. All but its one client are served.
void kill_a_busy_worker(const Setting& setting, bool respawn) {
  TestCluster cluster(setting, {.respawn = respawn});
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 2));
  auto* victim = crowd.of_worker(1);
  ASSERT_NE(victim, nullptr);
  ::kill(victim->worker_pid(), SIGKILL);
  for (auto& client : crowd) {
    if (&client != victim) client.ask();
  }
  EXPECT_TRUE(cluster.wait_until(
      "all the others to be served", [&] { return crowd.count(Client::State::finished) == crowd.size() - 1; }, &crowd));
  EXPECT_TRUE(cluster.wait_until(
      "the victim to be told", [&] { return victim->state() == Client::State::lost; }, &crowd));
  EXPECT_EQ(cluster.board().served_twice(), 0u);
  ASSERT_TRUE(cluster.wait_exit(1));
  const auto* exit = cluster.event(Event::Kind::exit, 1);
  EXPECT_EQ(exit->signal, SIGKILL);
  EXPECT_FALSE(exit->expected);
  if (respawn) {
    EXPECT_TRUE(cluster.wait_until("a replacement", [&] { return cluster.event(Event::Kind::listening, 3) != nullptr; }));
  } else {
    EXPECT_EQ(cluster.event(Event::Kind::online, 3), nullptr);
  }
  EXPECT_TRUE(cluster.shut_down());
  EXPECT_EQ(cluster->exit_code(), respawn ? 0 : 1);
}

TEST_P(Crash, killed_worker_loses_only_what_it_had_accepted_and_is_replaced) { kill_a_busy_worker(setting(), true); }

TEST_P(Crash, killed_worker_loses_only_what_it_had_accepted_without_respawn) { kill_a_busy_worker(setting(), false); }

TEST_P(Crash, queue_of_the_only_worker_waits_for_its_replacement) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  crowd.connect(cluster.address(), 20);
  ASSERT_TRUE(cluster.wait_until(
      "20 connections to wait", [&] { return crowd.count(Client::State::connected) == 20; }, &crowd));
  ::kill(crowd[0].worker_pid(), SIGKILL);
  for (size_t i = 1; i <= 20; ++i) crowd[i].ask();
  EXPECT_TRUE(cluster.wait_until(
      "the waiting clients to be served", [&] { return crowd.count(Client::State::finished) == 20; }, &crowd));
  EXPECT_EQ(crowd.per_worker().back(), 20u) << "by the replacement, worker 2";
  cluster.expect_clean_shutdown();
}

TEST_P(Crash, workers_killed_under_load_lose_at_most_one_connection_each) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(4, Style::blocking));
  const Load load({.to = cluster.address(), .count = 3000, .at_once = 16});
  constexpr uint32_t kKills = 3;
  for (uint32_t victim = 1; victim <= kKills; ++victim) {
    const auto enough = load.answered() + 200;
    ASSERT_TRUE(cluster.wait_until(
        "load", [&] { return load.answered() >= enough || load.over(); }, nullptr, &load));
    ::kill(cluster.worker(victim).pid, SIGKILL);
    ASSERT_TRUE(cluster.wait_exit(victim));
  }
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_LE(load.lost(), kKills) << load.describe() << cluster.describe();
  EXPECT_EQ(load.refused(), 0u);
  EXPECT_EQ(cluster.board().served_twice(), 0u);
  EXPECT_TRUE(cluster.shut_down());
}

/// Kills of idle, busy and stopped workers at random moments, from a seed that a failure tells.
class CrashAtRandom : public StyleTest {};
INSTANTIATE_TEST_SUITE_P(every, CrashAtRandom,
                         testing::Combine(testing::ValuesIn(kPolicies), testing::Values(Style::blocking, Style::watch)),
                         style_test_name);

TEST_P(CrashAtRandom, connections_that_no_worker_had_accepted_outlive_every_kill) {
  const auto seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto below = [&](unsigned limit) { return static_cast<uint32_t>(random() % limit); };
  TestCluster cluster(policy(), {.respawn = false});  // its pauses between crashes would be most of the time
  ASSERT_TRUE(cluster.start(4, style()));
  constexpr uint32_t kKills = 12;
  const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 24});
  const auto go_on = [&](uint32_t answers) {
    const auto enough = load.answered() + answers;
    return cluster.wait_until(
        "load", [&] { return load.answered() >= enough || load.over(); }, nullptr, &load);
  };
  for (uint32_t kills = 0; kills < kKills && !load.over(); ++kills) {
    ASSERT_TRUE(go_on(below(200)));
    const auto workers = cluster->status().workers;
    const auto& victim = workers[below(static_cast<unsigned>(workers.size()))];
    if (below(3) == 0) {  // with what was handed to it, and queued for it, meanwhile
      stop_process(victim.pid);
      ASSERT_TRUE(go_on(below(100)));
    }
    ::kill(victim.pid, SIGKILL);
    if (below(2) == 0) {
      ASSERT_TRUE(cluster.wait_exit(victim.id));
    }
    ASSERT_TRUE(cluster.start(1, style()));
    ASSERT_TRUE(cluster.wait_exit(victim.id));
  }
  load.stop();
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered() + load.lost(), load.started()) << load.describe();
  // Between accept and hello, a worker has one that its code may not have seen.
  EXPECT_LE(style() == Style::blocking ? load.lost() : load.lost_unheard(), kKills) << load.describe() << cluster.describe();
  EXPECT_EQ(cluster.board().served_twice(), 0u);
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  EXPECT_TRUE(cluster.shut_down());
}

TEST_P(Crash, replacement_holds_no_copy_of_waiting_connections) {
  TestCluster cluster(setting(), {.window = 1});
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 2));
  // Replaces worker 1, while the primary has connections in its hands.
  auto* victim = crowd.of_worker(1);
  ::kill(victim->worker_pid(), SIGKILL);
  ASSERT_TRUE(cluster.wait_until(
      "a replacement that is busy", [&] { return crowd.of_worker(3) != nullptr; }, &crowd));
  // Worker 2 serves all the others. They see the end only if worker 3 has no copy of their sockets.
  for (auto& client : crowd) {
    if (client.worker() != 3) client.ask();
  }
  EXPECT_TRUE(cluster.wait_until(
      "all the others to be served to the end", [&] { return crowd.count(Client::State::finished) == crowd.size() - 2; }, &crowd));
  crowd.leave_all();
  EXPECT_TRUE(cluster.shut_down());
}

/// A worker that gets as far as listening. (One that never does is not replaced: the server cannot start.)
WorkerFunction crashing(int code) {
  return [=](Worker& worker) {
    const auto listener = worker.listen(kAnyPort);
    return listener ? code : 99;
  };
}

TEST(CrashLoop, worker_that_crashes_again_and_again_is_reported_with_its_backoff) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster->spawn(crashing(7)));
  ASSERT_TRUE(cluster.wait_until("the report", [&] { return cluster.count(Event::Kind::crash_loop) > 0; }));
  unsigned crashes = 0;
  for (const auto& seen : cluster.events()) {
    if (seen.kind == Event::Kind::crash_loop) {
      EXPECT_GT(seen.backoff.count(), 0);
      EXPECT_LE(seen.backoff, std::chrono::seconds(10));
    }
    if (seen.kind != Event::Kind::exit) continue;
    ++crashes;
    EXPECT_EQ(seen.exit_code, 7);
    EXPECT_EQ(seen.signal, 0);
    EXPECT_FALSE(seen.expected);
  }
  EXPECT_GE(crashes, 2u) << "the first crash is not a loop";
  EXPECT_FALSE(cluster->done());
  EXPECT_TRUE(cluster.shut_down()) << "a pending replacement must not hold up the shutdown";
}

TEST(CrashLoop, server_that_cannot_start_ends_instead_of_trying_for_ever) {
  TestCluster cluster("auto");
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(cluster->spawn([](Worker&) { return 7; }));
  ASSERT_TRUE(cluster.wait_until("all to be gone", [&] { return cluster->done(); }));
  EXPECT_EQ(cluster.count(Event::Kind::exit), 3u);
  EXPECT_EQ(cluster->exit_code(), 1);
}

TEST(CrashLoop, ids_are_never_used_twice) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster->spawn(crashing(1)));
  ASSERT_TRUE(cluster.wait_until("three crashes", [&] { return cluster.count(Event::Kind::exit) >= 3; }));
  uint32_t last = 0;
  for (const auto& seen : cluster.events()) {
    if (seen.kind != Event::Kind::exit) continue;
    EXPECT_GT(seen.worker, last);
    last = seen.worker;
  }
  cluster->kill();
  EXPECT_TRUE(cluster.wait_until("the end", [&] { return cluster->done(); }));
}

TEST(CrashLoop, N27_worker_that_leaves_by_itself_has_not_crashed_and_is_not_replaced) {
  TestCluster cluster("auto");
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(cluster->spawn([](Worker&) { return 0; }));
  ASSERT_TRUE(cluster.wait_until("all to leave", [&] { return cluster->done(); }));
  EXPECT_EQ(cluster.count(Event::Kind::exit), 8u);
  EXPECT_EQ(cluster.count(Event::Kind::crash_loop), 0u);
  for (const auto& seen : cluster.events()) {
    if (seen.kind != Event::Kind::exit) continue;
    EXPECT_TRUE(seen.expected);
    EXPECT_EQ(seen.exit_code, 0);
  }
  EXPECT_EQ(cluster->exit_code(), 0);
}

TEST(CrashLoop, child_that_is_not_a_worker_is_left_to_its_owner) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  const pid_t own = ::fork();
  if (own == 0) ::_exit(42);
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(own), &ended, WEXITED | WNOWAIT), 0);
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_until("a replacement", [&] { return cluster.event(Event::Kind::listening, 3) != nullptr; }));
  int status = 0;
  ASSERT_EQ(::waitpid(own, &status, 0), own);
  EXPECT_EQ(WEXITSTATUS(status), 42);
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
