// SPDX-License-Identifier: MIT
// More and fewer workers while they run, and the hint to those that have many connections.
#include <sys/epoll.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "contract.hh"

namespace lb::test {
namespace {

using Kind = Event::Kind;
using std::chrono::milliseconds;

class Scaling : public PolicyTest {};
LB_FOR_EVERY_POLICY(Scaling);

bool wait_listening(TestCluster& cluster, size_t count) {
  return cluster.wait_until("so many workers to listen", [&] {
    const auto workers = cluster->workers();
    return workers.size() == count &&
           std::all_of(workers.begin(), workers.end(), [](const auto& worker) { return worker.state == WorkerState::listening; });
  });
}

TEST_P(Scaling, up_and_down_under_load_loses_nothing) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 16});
  for (const unsigned workers : {4, 1, 3}) {
    ASSERT_TRUE(cluster->scale(workers));
    ASSERT_TRUE(wait_listening(cluster, workers));
    const uint32_t answered = load.answered();
    ASSERT_TRUE(cluster.wait_until("load", [&] { return load.over() || load.answered() >= answered + 100; }));
  }
  load.stop();
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.lost() + load.refused(), 0u) << load.describe();
  EXPECT_EQ(cluster.board().not_once(load.started()), 0u);
  EXPECT_EQ(cluster->status().scaling, "");
  cluster.expect_clean_shutdown();
}

TEST(Scale, down_drains_who_has_the_fewest_connections_and_of_two_alike_the_younger) {
  TestCluster cluster("round-robin");
  ASSERT_TRUE(cluster.start(4, Style::watch));
  Crowd crowd;
  crowd.connect(cluster.address(), 2);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  std::vector<uint32_t> busy{crowd[0].worker(), crowd[1].worker()};
  std::vector<uint32_t> idle;
  for (uint32_t id = 1; id <= 4; ++id)
    if (std::count(busy.begin(), busy.end(), id) == 0) idle.push_back(id);
  ASSERT_EQ(idle.size(), 2u) << "cyclic";
  ASSERT_TRUE(cluster->scale(3));
  ASSERT_TRUE(cluster.wait_exit(idle.back()));
  ASSERT_TRUE(cluster->scale(2));
  ASSERT_TRUE(cluster.wait_exit(idle.front()));
  EXPECT_TRUE(cluster.event(Kind::exit, idle.front())->expected);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST(Scale, what_cannot_be_is_refused_with_the_numbers) {
  TestCluster cluster("auto", {.workers_max = 4});
  ASSERT_TRUE(cluster.made());
  EXPECT_EQ(cluster->scale(1).error().code, ENOENT);
  ASSERT_TRUE(cluster.start(1, Style::watch));
  EXPECT_EQ(cluster->scale(0).error().code, EINVAL);
  const auto refused = cluster->scale(1000);
  EXPECT_EQ(refused.error().code, ENOSPC);
  EXPECT_NE(refused.error().message().find("1000"), std::string::npos) << refused.error().message();
  cluster.expect_clean_shutdown();
  EXPECT_EQ(cluster->scale(1).error().code, ESHUTDOWN);
}

TEST(Scale, during_a_roll_follows_its_replacements) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(3, Style::watch));
  ASSERT_TRUE(cluster->roll());
  ASSERT_TRUE(cluster->scale(5));
  EXPECT_NE(cluster->status().scaling.find("5"), std::string::npos);
  ASSERT_TRUE(cluster.wait_until("both", [&] { return cluster.count(Kind::roll_done) == 1 && cluster->status().scaling.empty(); }));
  ASSERT_TRUE(wait_listening(cluster, 5));
  for (const auto& worker : cluster->workers()) EXPECT_EQ(worker.generation, 2u) << cluster.describe();
  cluster.expect_clean_shutdown();
}

TEST(Scale, worker_that_crashed_and_waits_to_be_replaced_counts) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, Style::watch));
  ASSERT_EQ(::kill(cluster.worker(1).pid, SIGKILL), 0);
  ASSERT_TRUE(cluster->scale(3));
  ASSERT_TRUE(cluster.wait_exit(1));
  ASSERT_TRUE(wait_listening(cluster, 3));
  EXPECT_EQ(cluster.count(Kind::spawned), 4u) << cluster.describe();
  cluster.expect_clean_shutdown();
}

/// Holds its connections, and closes as many as it is asked to: flag 0 counts them, flag 1 the times it was asked.
const Program kShedding("shedding", [](Worker& worker, Board& board, const std::string&) {
  auto listener = worker.listen(kAnyPort).value();
  std::vector<Connection> held;
  worker.on_shed([&](unsigned count) {
    ++board.flag[1];
    for (; count != 0 && !held.empty(); --count) {
      held.pop_back();
      ++board.flag[0];
    }
  });
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = 0}};
  ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, worker.fd(), &event);
  if (!listener.watch(epoll.get(), 1)) return board.fail("watch");
  while (!worker.draining()) {
    ::epoll_wait(epoll.get(), &event, 1, -1);
    if (!worker.dispatch()) return board.fail("dispatch");
    while (true) {
      auto accepted = listener.try_accept();
      if (!accepted || !*accepted) break;
      (void)say_hello(worker, (*accepted)->fd());
      held.push_back(std::move(**accepted));
    }
  }
  return 0;
});

TEST(Scale, hot_workers_are_asked_to_shed_until_their_clients_are_shared_and_no_longer) {
  TestCluster cluster("round-robin:least-loaded", {.shed_over = milliseconds(80)});
  ASSERT_TRUE(cluster.start(1, kShedding));
  Crowd crowd;
  crowd.connect(cluster.address(), 40);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  EXPECT_EQ(cluster.board().flag[1], 0u) << "alone it has nobody to share with";
  ASSERT_TRUE(cluster->scale(2));
  const auto at = cluster.address();
  ASSERT_TRUE(cluster.wait_until(
      "the clients to be shared",
      [&] {
        for (size_t closed = cluster.board().flag[0]; crowd.size() < 40 + closed;) crowd.connect(at, 1);  // they come back
        return cluster.worker(1).in_flight <= 26;
      },
      &crowd));
  EXPECT_GE(cluster.board().flag[1], 2u) << "all at once";
  EXPECT_LE(cluster.board().flag[0], 80u) << "some come back to the hot one, while the other is slow to say that it is idle";
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

TEST(Scale, cluster_without_workers_that_is_to_have_some_is_not_done) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(1, Style::watch));
  ASSERT_TRUE(cluster->drain(1));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_TRUE(cluster->done());
  ASSERT_TRUE(cluster->scale(2));
  EXPECT_FALSE(cluster->done());
  EXPECT_TRUE(cluster.wait_until("two workers", [&] { return cluster.count(Event::Kind::listening) == 3; }));
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
