// SPDX-License-Identifier: MIT
// Leaving loses nothing: the whole cluster, or one worker, under load.
#include <sys/socket.h>

#include <csignal>
#include <utility>

#include "contract.hh"

namespace lb::test {
namespace {

class DrainEveryWay : public StyleTest {};
LB_FOR_EVERY_POLICY_AND_STYLE(DrainEveryWay);

TEST_P(DrainEveryWay, shutdown_under_load_answers_every_client_that_got_through) {
  // A client that is turned away tries again after a second.
  if (style() == Style::pollable) GTEST_SKIP() << "takes its time, and a loop over fd() drains as one over watch() does";
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(4, style()));
  const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 16, .until_refused = true});
  ASSERT_TRUE(cluster.wait_until(
      "load", [&] { return load.answered() >= 300; }, nullptr, &load));
  cluster.expect_clean_shutdown();
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.lost(), 0u) << load.describe();
  EXPECT_GT(load.refused(), 0u) << load.describe();
  EXPECT_EQ(load.answered() + load.refused(), load.started());
  EXPECT_EQ(cluster.board().served_twice(), 0u);
}

TEST_P(DrainEveryWay, draining_one_worker_under_load_loses_nothing) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(4, style()));
  const Load load({.to = cluster.address(), .count = 2000, .at_once = 16});
  ASSERT_TRUE(cluster.wait_until(
      "load", [&] { return load.answered() >= 300; }, nullptr, &load));
  ASSERT_TRUE(cluster->drain(2));
  ASSERT_TRUE(cluster.wait_exit(2));
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 2000u) << load.describe();
  EXPECT_EQ(cluster.board().not_once(2000), 0u);
  const auto* exit = cluster.event(Event::Kind::exit, 2);
  EXPECT_TRUE(exit->expected);
  EXPECT_EQ(exit->exit_code, 0);
  EXPECT_EQ(exit->signal, 0);
  EXPECT_EQ(cluster.event(Event::Kind::online, 5), nullptr) << "a drained worker was replaced";
  cluster.expect_clean_shutdown();
}

class DrainEveryKind : public KindTest {};
LB_FOR_EVERY_POLICY_AND_KIND(DrainEveryKind);

class DrainOtherKind : public KindTest {};
LB_FOR_EVERY_POLICY_AND_OTHER_KIND(DrainOtherKind);

TEST_P(DrainOtherKind, draining_one_worker_under_load_loses_nothing) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(3, Style::blocking));
  const Load load({.to = cluster.address(), .count = 1000, .at_once = 16});
  ASSERT_TRUE(cluster.wait_until(
      "load", [&] { return load.answered() >= 100; }, nullptr, &load));
  ASSERT_TRUE(cluster->drain(2));
  ASSERT_TRUE(cluster.wait_exit(2));
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 1000u) << load.describe();
  EXPECT_EQ(cluster.board().not_once(1000), 0u);
  cluster.expect_clean_shutdown();
}

class DrainProcess : public KindTest {};
LB_FOR_EVERY_POLICY_AND_PROCESS_KIND(DrainProcess);

class Drain : public PolicyTest {};
LB_FOR_EVERY_POLICY(Drain);

TEST_P(DrainEveryKind, worker_told_to_leave_finishes_what_it_has_and_takes_nothing_new) {
  for (const Style style : {Style::blocking, Style::watch}) {
    TestCluster cluster(setting());
    ASSERT_TRUE(cluster.start(2, style));
    Crowd crowd;
    while (crowd.of_worker(1) == nullptr) {
      ASSERT_LT(crowd.size(), 200u) << "worker 1 gets nothing";
      crowd.connect(cluster.address(), 1);
      ASSERT_TRUE(cluster.wait_greeted(crowd));
      if (crowd.of_worker(1) == nullptr) crowd.ask_all();
    }
    const auto held = crowd.per_worker()[1];
    ASSERT_TRUE(cluster->drain(1));
    Crowd later;
    later.connect(cluster.address(), 20);
    later.ask_all();
    EXPECT_TRUE(cluster.wait_finished(later));
    // The kernel's own hash knows nothing of drains: what it still sends is served, here or by the other worker.
    // A shared socket may have woken worker 1 for connections together with the word to drain: it takes those that are there.
    if (policy() != "reuseport:hash" && (policy() != "shared" || style == Style::blocking)) {
      EXPECT_EQ(later.per_worker()[1], 0u);
    }
    EXPECT_EQ(cluster.count(Event::Kind::exit), 0u);
    crowd.ask_all();
    EXPECT_TRUE(cluster.wait_finished(crowd));
    EXPECT_EQ(crowd.per_worker()[1], held);
    EXPECT_TRUE(cluster.wait_exit(1));
    EXPECT_TRUE(cluster.event(Event::Kind::exit, 1)->expected);
    cluster.expect_clean_shutdown();
  }
}

TEST_P(DrainEveryKind, shutdown_serves_what_waits_for_a_busy_worker) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 1));
  cluster->shutdown();
  ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Drain, last_worker_serves_what_waits_although_it_knows_that_it_leaves) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    while (auto connection = listener.accept()) {
      answer_one(worker, *connection, board);
      if (!worker.dispatch()) return board.fail("dispatch");  // from here on draining() is true
    }
    return 0;
  }));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 1));
  cluster->shutdown();
  if (Policy::parse(policy())->backend != Backend::round_robin) {  // whose primary empties its own queue first
    ASSERT_TRUE(cluster.wait_until("the worker to be told", [&] { return cluster.count(Event::Kind::draining) == 1; }));
  }
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(DrainProcess, worker_that_outstays_the_deadline_is_killed_and_the_exit_code_says_so) {
  TestCluster cluster(setting(), {.drain_deadline = std::chrono::milliseconds(20)});
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  const auto stubborn = crowd[0].worker();
  ASSERT_TRUE(cluster.shut_down());
  EXPECT_EQ(cluster.event(Event::Kind::exit, stubborn)->signal, SIGKILL);
  EXPECT_EQ(cluster->exit_code(), 1);
  crowd.leave_all();
}

TEST_P(Drain, sigterm_to_a_worker_drains_it) {
  for (const Style style : kStyles) {
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(2, style));
    const Load load({.to = cluster.address(), .count = 1000, .at_once = 16});
    ASSERT_TRUE(cluster.wait_until(
        "load", [&] { return load.answered() >= 100; }, nullptr, &load));
    ::kill(cluster.worker(1).pid, SIGTERM);
    ASSERT_TRUE(cluster.wait_exit(1)) << name_of(style);
    ASSERT_TRUE(cluster.wait_over(load));
    EXPECT_EQ(load.answered(), 1000u) << load.describe();
    EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->exit_code, 0);
    EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->signal, 0);
    cluster.expect_clean_shutdown();
  }
}

TEST_P(DrainProcess, kill_ends_all_workers_at_once) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(3, Style::blocking));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 3));
  cluster->kill();
  ASSERT_TRUE(cluster.wait_until("the workers to be gone", [&] { return cluster->done(); }));
  EXPECT_EQ(cluster.count(Event::Kind::exit), 3u);
  EXPECT_EQ(cluster->exit_code(), 1);
  EXPECT_TRUE(cluster.wait_until(
      "the clients to see it",
      [&] {
        return crowd.greeted() == 3 && crowd.of_worker(1) == nullptr && crowd.of_worker(2) == nullptr &&
               crowd.of_worker(3) == nullptr;
      },
      &crowd));
}

TEST_P(DrainEveryKind, destroyed_cluster_leaves_no_worker) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(3, Style::watch));
}

TEST(DrainAlone, worker_whose_queue_never_empties_hears_that_it_is_to_leave) {
  TestCluster cluster("shared");
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    const auto call = [to = listener.address()] {  // its own client, so that one waits whenever it comes for the next
      UniqueFd client(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
      return ::connect(client.get(), to.address(), to.length()) == 0 ? std::move(client) : UniqueFd();
    };
    UniqueFd client = call();
    while (auto connection = listener.accept()) {
      client = call();
      if (!client) return board.fail("connect");
      board.flag[0] = 1;
    }
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_until("it to be busy", [&] { return board.flag[0] == 1; }));
  ASSERT_TRUE(cluster->drain(1));
  EXPECT_TRUE(cluster.wait_exit(1));
  cluster.expect_clean_shutdown();
}

TEST(DrainAlone, unknown_worker_is_esrch) {
  TestCluster cluster("auto");
  EXPECT_EQ(cluster->drain(1).error().code, ESRCH);
  EXPECT_EQ(cluster->drain(0).error().code, ESRCH);
}

TEST(DrainAlone, cluster_without_workers_is_done_once_shut_down) {
  TestCluster cluster("auto");
  EXPECT_TRUE(cluster.shut_down());
  EXPECT_EQ(cluster->exit_code(), 0);
}

}  // namespace
}  // namespace lb::test
