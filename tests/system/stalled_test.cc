// SPDX-License-Identifier: MIT
// Workers that are there but cannot go on: stopped, out of descriptors, or slower than the clients.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <csignal>
#include <optional>

#include "contract.hh"
#include "isolation.hh"

namespace lb::test {
namespace {

class StalledEveryWay : public StyleTest {};
LB_FOR_EVERY_POLICY_AND_STYLE(StalledEveryWay);

TEST_P(StalledEveryWay, stopped_worker_costs_the_others_nothing_and_serves_nothing_twice) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, style()));
  const auto pid = cluster.worker(1).pid;
  stop_process(pid);
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd)) << "while worker 1 was stopped";
  ::kill(pid, SIGCONT);
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd)) << "after worker 1 went on";
  EXPECT_EQ(cluster.board().not_once(40), 0u);
  cluster.expect_clean_shutdown();
  EXPECT_EQ(cluster.board().accepted[1] + cluster.board().accepted[2], 40u);
}

class Stalled : public PolicyTest {};
LB_FOR_EVERY_POLICY(Stalled);

TEST_P(Stalled, what_waits_for_a_worker_that_is_stopped_while_busy_goes_to_another) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 2));
  const auto pid = crowd.of_worker(1)->worker_pid();
  stop_process(pid);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_until(
      "all but the stopped worker's client to be served", [&] { return crowd.count(Client::State::finished) == crowd.size() - 1; },
      &crowd));
  ::kill(pid, SIGCONT);
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.board().not_once(crowd.size()), 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(Stalled, worker_that_is_stopped_is_hung_in_the_status_until_it_goes_on) {
  if (Policy::parse(policy())->backend == Backend::shared) GTEST_SKIP() << "nothing waits for one worker alone: nobody can tell";
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  const auto hung = [&] {
    for (const auto& load : cluster.endpoint().workers) {
      if (load.worker == 1) return load.hung;
    }
    return false;
  };
  EXPECT_FALSE(hung());
  const auto pid = cluster.worker(1).pid;
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 2));
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  ASSERT_TRUE(wait_asleep(pid));  // one that is busy is not hung, whatever holds it up
  stop_process(pid);
  EXPECT_TRUE(cluster.wait_until(
      "the status to say so",
      [&] {
        if (crowd.all(Client::State::finished)) crowd.connect(cluster.address(), 10);
        crowd.ask_all();
        return hung();
      },
      &crowd));
  ::kill(pid, SIGCONT);
  EXPECT_TRUE(cluster.wait_until(
      "it to be back", [&] { return !hung(); }, &crowd));
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(StalledEveryWay, worker_without_free_descriptors_leaves_connections_to_others_and_recovers) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, style()));
  const auto pid = cluster.worker(1).pid;
  Crowd crowd;
  stop_process(cluster.worker(2).pid);  // so that worker 1 serves one, and has all it needs to
  crowd.connect(cluster.address(), 1);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  const auto before = crowd.per_worker().at(1);
  ASSERT_EQ(before, 1u);
  ::kill(cluster.worker(2).pid, SIGCONT);
  limit_descriptors(pid, 3);
  for (int i = 0; i < 10; ++i) {  // nobody comes after it who would wake another worker
    crowd.connect(cluster.address(), 1);
    crowd.ask_all();
    ASSERT_TRUE(cluster.wait_finished(crowd)) << i + 1 << " of those who come alone";
  }
  crowd.connect(cluster.address(), 30);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd)) << "while worker 1 could take none";
  EXPECT_EQ(crowd.per_worker()[1], before);
  limit_descriptors(pid, 1024);
  ASSERT_TRUE(cluster->drain(2));
  ASSERT_TRUE(cluster.wait_exit(2));
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd)) << "by worker 1, which has room again";
  EXPECT_EQ(crowd.per_worker()[1], before + 10);
  EXPECT_EQ(cluster.board().not_once(crowd.size()), 0u);
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  cluster.expect_clean_shutdown();
}

/// The kernel has woken it for a connection, and it never comes to take it. It waits in epoll_wait itself, which takes the one wake-up
/// that there is; a poll of the epoll instance would let it pass on to the next.
TEST_P(Stalled, connection_that_woke_a_worker_which_hangs_before_it_takes_it_goes_to_another) {
  const Gate hangs;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  const auto waiter = [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (worker.id() == 1) {
      listener.watch(epoll.get(), 0).value();
      epoll_event event{.events = EPOLLIN, .data = {.u64 = 1}};
      ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, worker.fd(), &event);
      board.flag[0] = 1;
      while (::epoll_wait(epoll.get(), &event, 1, -1) < 1) {
      }
      hangs.wait();
    }
    return answer_all(worker, listener, Style::watch, board);
  };
  ASSERT_TRUE(cluster.start(1, waiter));
  ASSERT_TRUE(cluster.wait_until("worker 1 to be the first in line", [&] { return board.flag[0] != 0; }));
  ASSERT_TRUE(cluster.start(1, waiter));
  Crowd crowd;
  for (int i = 0; i < 5; ++i) {
    crowd.connect(cluster.address(), 1);
    crowd.ask_all();
    ASSERT_TRUE(cluster.wait_finished(crowd)) << "connection " << i;
  }
  EXPECT_EQ(crowd.per_worker().at(2), 5u);
  hangs.open();
  cluster.expect_clean_shutdown();
}

TEST(StalledAdopter, queue_of_a_dead_worker_goes_to_another_when_the_one_that_was_to_empty_it_hangs) {
  TestCluster cluster("reuseport:hash", {.respawn = false});
  ASSERT_TRUE(cluster.start(3, Style::watch));
  ::kill(cluster.worker(1).pid, SIGKILL);  // both others are idle: the first of them empties its queue
  ASSERT_TRUE(cluster.wait_exit(1));
  Crowd crowd;
  while (crowd.of_worker(2) == nullptr) {  // in hand, so that its load keeps it from being thought hung
    ASSERT_LT(crowd.size(), 200u);
    crowd.connect(cluster.address(), 1);
    ASSERT_TRUE(cluster.wait_greeted(crowd));
  }
  const auto held = static_cast<size_t>(crowd.per_worker()[2]);
  const auto pid = cluster.worker(2).pid;
  stop_process(pid);
  crowd.connect(cluster.address(), 40);  // about a third of them to the dead worker's socket
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_until(
      "all but the stopped worker's clients to be served",
      [&] { return crowd.count(Client::State::finished) == crowd.size() - held; }, &crowd));
  ::kill(pid, SIGCONT);
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_TRUE(cluster.shut_down());
}

class RoundRobin : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(every, RoundRobin, testing::ValuesIn(kRoundRobins), policy_test_name);

TEST_P(RoundRobin, N23_primary_holds_no_more_than_its_queue_bound_and_nothing_is_lost) {
  TestCluster cluster(policy(), {.window = 1, .queue_max = 4});
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  uint32_t most = 0;
  const auto held = [&] {
    const auto endpoint = cluster.endpoint();
    most = std::max(most, endpoint.queued);
    EXPECT_LE(endpoint.workers.at(0).backlog, 1u) << "more than the window";
    return endpoint.queued;
  };
  for (size_t made = 1; made <= 40; ++made) {
    crowd.connect(cluster.address(), 1);
    ASSERT_TRUE(cluster.wait_until(
        "the connection to be made",
        [&] {
          held();
          return crowd.count(Client::State::connected) == made;
        },
        &crowd));
  }
  ASSERT_TRUE(cluster.wait_until(
      "the queue to fill", [&] { return held() == 4; }, &crowd));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_until(
      "all to be served",
      [&] {
        held();
        return crowd.all(Client::State::finished);
      },
      &crowd));
  EXPECT_LE(most, 4u);
  EXPECT_EQ(held(), 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(RoundRobin, N22_connection_revoked_from_a_worker_that_had_received_it_is_not_yielded_there_too) {
  const Gate go_on;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() == 2) return answer_all(worker, listener, Style::watch, board);
    pollfd ready{.fd = listener.fd(), .events = POLLIN, .revents = 0};
    std::optional<Connection> first;
    while (!first) {
      ::poll(&ready, 1, -1);
      first = listener.try_accept().value();
    }
    ++board.accepted[1];
    go_on.wait();  // the handler of the first one takes long; the rest of its batch is in this process's hands
    ::fcntl(first->fd(), F_SETFL, 0);
    answer_one(worker, *first, board);
    first.reset();
    return answer_all(worker, listener, Style::watch, board);
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 48);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_until(
      "worker 2 to serve all but one", [&] { return crowd.count(Client::State::finished) == 47; }, &crowd));
  go_on.open();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(board.not_once(48), 0u);
  cluster.expect_clean_shutdown();
  EXPECT_EQ(board.accepted[1], 1u);
  EXPECT_EQ(board.accepted[2], 47u);
}

TEST_P(RoundRobin, N20_window_bounds_what_a_worker_has_not_yet_taken) {
  TestCluster cluster(policy(), {.window = 3});
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 2);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  crowd.connect(cluster.address(), 40);
  ASSERT_TRUE(cluster.wait_until(
      "the windows to fill and the rest to be queued",
      [&] {
        const auto endpoint = cluster.endpoint();
        return endpoint.queued + endpoint.workers.at(0).backlog + endpoint.workers.at(1).backlog == 40;
      },
      &crowd));
  for (const auto& load : cluster.endpoint().workers) EXPECT_LE(load.backlog, 3u) << "worker " << load.worker;
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
