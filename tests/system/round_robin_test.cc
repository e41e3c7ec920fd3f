// SPDX-License-Identifier: MIT
// Round-robin's hard cases: the queue, the window, refusals, workers that go between a hand-off and its taking.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>

#include "contract.hh"
#include "isolation.hh"

namespace lb::test {
namespace {

class HandOff : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(every, HandOff, testing::ValuesIn(kRoundRobins), policy_test_name);

TEST_P(HandOff, N19_free_workers_are_served_in_turn_and_who_finds_none_free_waits_in_order) {
  TestCluster cluster(policy(), {.window = 1});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(cluster.start(1, Style::blocking));  // they queue up in this order
  Crowd crowd;
  for (uint32_t i = 0; i < 3; ++i) {
    crowd.connect(cluster.address(), 1);
    ASSERT_TRUE(cluster.wait_greeted(crowd));
    EXPECT_EQ(crowd[i].worker(), i + 1) << "the free list is in order";
  }
  for (uint32_t i = 3; i < 6; ++i) {
    crowd.connect(cluster.address(), 1);
    ASSERT_TRUE(cluster.wait_until(
        "it to be queued", [&] { return cluster.endpoint().queued == i - 2; }, &crowd));
  }
  EXPECT_EQ(crowd.greeted(), 3u);
  // Who becomes free gets the oldest.
  for (const size_t first : {1, 0, 2}) {
    const size_t next = 6 - static_cast<size_t>(cluster.endpoint().queued);
    crowd[first].ask();
    ASSERT_TRUE(cluster.wait_until(
        "the oldest to be served", [&] { return crowd[next].greeted(); }, &crowd));
    EXPECT_EQ(crowd[next].worker(), crowd[first].worker());
  }
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(HandOff, N20_worker_is_handed_the_next_when_it_has_taken_the_last) {
  const Gate take;
  TestCluster cluster(policy(), {.window = 1});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    std::vector<Connection> held;
    pretend_to_wait(listener, take);
    while (held.size() < 3) {
      auto connection = listener.try_accept();
      if (!connection || !*connection) return board.fail("nothing was handed");
      held.push_back(std::move(**connection));
      ++board.flag[1];
      take.wait();
    }
    for (auto& connection : held) say_hello(worker, connection.fd());
    held.clear();
    return answer_all(worker, listener, Style::watch, board);
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 3);
  for (uint32_t taken = 0; taken < 3; ++taken) {
    ASSERT_TRUE(cluster.wait_until(
        "one to be handed and the rest to wait",
        [&] { return board.flag[1] == taken && cluster.untaken() == 1 && cluster.endpoint().queued == 2 - taken; }, &crowd));
    take.open();
  }
  ASSERT_TRUE(cluster.wait_until(
      "all to be taken", [&] { return board.flag[1] == 3 && cluster.endpoint().queued == 0; }, &crowd));
  take.open();
  EXPECT_TRUE(cluster.wait_until(
      "the clients to be told", [&] { return crowd.all(Client::State::lost) && crowd.greeted() == 3; }, &crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(HandOff, endpoint_that_others_have_served_outlives_a_primary_that_cannot_grant_it_and_so_do_those_who_wait) {
  const Gate first;
  const Gate second;
  TestCluster cluster(policy(), {.respawn = false});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  stop_process(cluster.worker(1).pid);
  Crowd crowd;
  crowd.connect(cluster.address(), 8);
  ASSERT_EQ(::kill(cluster.worker(1).pid, SIGKILL), 0);
  ASSERT_TRUE(cluster.wait_exit(1));
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    first.wait();
    const auto refused = worker.listen(kAnyPort);
    if (refused || refused.error().code != EMFILE) board.fail("listen while the primary has no descriptors");
    board.flag[0] = 1;
    second.wait();
    return answering(Style::watch, board)(worker);
  }));
  const int next = ::dup(STDERR_FILENO);  // the lowest free number
  ::close(next);
  limit_descriptors(::getpid(), static_cast<rlim_t>(next));
  first.open();
  EXPECT_TRUE(cluster.wait_until("the refusal", [&] { return board.flag[0] == 1; }));
  limit_descriptors(::getpid(), 1024);
  second.open();
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_TRUE(crowd.all(Client::State::finished)) << crowd.describe();
  EXPECT_EQ(board.failures, 0u) << board.text.data();
  EXPECT_TRUE(cluster.shut_down());
}

/// However long the worker whose turn it was is at its request: it is busy, not hung.
TEST_P(HandOff, connection_handed_ahead_to_a_busy_worker_goes_to_the_one_that_becomes_idle_first) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  for (int i = 0; i < 2; ++i) {
    crowd.connect(cluster.address(), 1);
    ASSERT_TRUE(cluster.wait_greeted(crowd));
  }
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_until(
      "it to be handed ahead", [&] { return cluster.untaken() == 1; }, &crowd));
  const auto handed = std::chrono::steady_clock::now();
  ASSERT_TRUE(cluster.wait_until(  // the time after which one that sits on a hand-off though it waits for one would be hung
      "long", [&] { return std::chrono::steady_clock::now() - handed > std::chrono::milliseconds(60); }, &crowd));
  const auto loads = cluster.endpoint().workers;
  const auto holder = std::find_if(loads.begin(), loads.end(), [](const auto& load) { return load.backlog == 1; })->worker;
  ASSERT_EQ(cluster.untaken(), 1u) << "nobody is idle: it stays where it is";
  Client& other = crowd[crowd[0].worker() == holder ? 1 : 0];
  other.ask();
  ASSERT_TRUE(cluster.wait_until(
      "it to be served", [&] { return crowd[2].greeted(); }, &crowd));
  EXPECT_EQ(crowd[2].worker(), other.worker());
  for (const auto& load : cluster.endpoint().workers) EXPECT_FALSE(load.hung) << "worker " << load.worker;
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

// The primary still has its copy then, and epoll knows a socket by what all its copies stand for.
TEST_P(HandOff, closed_connection_is_not_in_the_epoll_instance_of_its_listener_any_more) {
  const Gate take;
  const Gate closed;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    constexpr uint64_t kConnection = 2;
    const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    auto listener = worker.listen(kAnyPort).value();
    listener.watch(epoll.get(), 1).value();
    take.wait();
    auto connection = listener.try_accept();
    if (!connection || !*connection) return board.fail("nothing was handed");
    epoll_event event{.events = EPOLLIN, .data = {.u64 = kConnection}};
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, (*connection)->fd(), &event) != 0) return board.fail("epoll_ctl");
    (*connection)->close();
    std::array<epoll_event, 4> events{};
    const int n = ::epoll_wait(epoll.get(), events.data(), events.size(), 0);
    for (int i = 0; i < n; ++i)
      if (events[static_cast<size_t>(i)].data.u64 == kConnection) board.flag[2] = 1;
    board.flag[1] = 1;
    closed.open();
    return answer_all(worker, listener, Style::watch, board);
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_until(
      "it to be handed", [&] { return cluster.untaken() == 1; }, &crowd));
  take.open();
  closed.wait();  // the primary, which is this thread, sees nothing of it meanwhile
  EXPECT_EQ(board.flag[1], 1u);
  EXPECT_EQ(board.flag[2], 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(HandOff, N21_what_a_closing_worker_has_in_hand_goes_to_another) {
  const Gate close;
  const Gate serve;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() == 2) {
      serve.wait();  // until then it does not ask for any
      return answer_all(worker, listener, Style::blocking, board);
    }
    pretend_to_wait(listener, close);
    // Some are in its hands, the others of the packet are refused.
    auto connection = listener.try_accept();
    if (!connection || !*connection) return board.fail("nothing was handed");
    ++board.accepted[worker.id()];
    listener.close();
    ::fcntl((*connection)->fd(), F_SETFL, 0);
    answer_one(worker, **connection, board);
    return 0;
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "a batch to be handed over", [&] { return cluster.untaken() >= 1 && cluster.untaken() + cluster.endpoint().queued == 20; },
      &crowd));
  close.open();
  ASSERT_TRUE(cluster.wait_until(
      "the primary to have the others back", [&] { return cluster.endpoint().queued == 19 && cluster.untaken() == 0; }, &crowd));
  serve.open();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(board.accepted[1], 1u);
  EXPECT_EQ(board.accepted[2], 19u);
  EXPECT_EQ(board.not_once(20), 0u);
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(HandOff, N22_connections_sent_to_a_worker_that_is_killed_before_it_takes_them_are_served_by_another) {
  const Gate never;
  TestCluster cluster(policy(), {.respawn = false});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    pretend_to_wait(listener, never);
    return 0;
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "some to be on their way", [&] { return cluster.untaken() >= 1 && cluster.untaken() + cluster.endpoint().queued == 10; },
      &crowd));
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.endpoint().queued, 10u) << "all are the primary's again";
  ASSERT_TRUE(cluster->spawn(answering(Style::blocking, board)));
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(board.not_once(10), 0u);
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  EXPECT_TRUE(cluster.shut_down());
}

TEST_P(HandOff, N22_worker_killed_with_a_packet_in_hand_loses_only_what_accept_has_yielded) {
  const Gate take;
  TestCluster cluster(policy(), {.respawn = false});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    pretend_to_wait(listener, take);
    const auto connection = listener.try_accept();
    board.flag[0] = connection && *connection ? 1 : 2;
    take.wait();
    return 0;
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 32);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "a batch to be on its way", [&] { return cluster.untaken() >= 1 && cluster.untaken() + cluster.endpoint().queued == 32; },
      &crowd));
  take.open();
  ASSERT_TRUE(cluster.wait_until(
      "the worker to take one", [&] { return board.flag[0] != 0; }, &crowd));
  ASSERT_EQ(board.flag[0], 1u);
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_exit(1));
  ASSERT_TRUE(cluster->spawn(answering(Style::blocking, board)));
  EXPECT_TRUE(cluster.wait_until(
      "all others to be served",
      [&] { return crowd.count(Client::State::finished) == 31 && crowd.count(Client::State::lost) == 1; }, &crowd));
  EXPECT_EQ(board.served_twice(), 0u);
  EXPECT_TRUE(cluster.shut_down());
}

TEST_P(HandOff, N22_connections_sent_to_a_worker_that_is_stopped_are_revoked_and_never_served_twice) {
  const Gate resumed;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() == 1) pretend_to_wait(listener, resumed);
    return answer_all(worker, listener, Style::blocking, board);
  }));
  const auto pid = cluster.worker(1).pid;
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "some to be on their way", [&] { return cluster.untaken() >= 1 && cluster.untaken() + cluster.endpoint().queued == 20; },
      &crowd));
  stop_process(pid);
  ASSERT_TRUE(cluster->spawn(answering(Style::blocking, board)));
  EXPECT_TRUE(cluster.wait_finished(crowd)) << "while worker 1 was stopped";
  ::kill(pid, SIGCONT);
  resumed.open();
  Crowd later;
  later.connect(cluster.address(), 20);
  later.ask_all();
  EXPECT_TRUE(cluster.wait_finished(later)) << "after it went on";
  for (size_t i = 0; i < 20; ++i) EXPECT_EQ(board.served[i], 2u) << "number " << i << ", once in each round";
  EXPECT_EQ(board.accepted[1] + board.accepted[2], 40u);
  cluster.expect_clean_shutdown();
}

TEST_P(HandOff, N23_age_of_the_oldest_that_waits_is_in_the_status) {
  TestCluster cluster(policy(), {.window = 1});
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  EXPECT_EQ(cluster.endpoint().queue_age_ms, 0u);
  crowd.connect(cluster.address(), 3);
  ASSERT_TRUE(cluster.wait_until(
      "it to age", [&] { return cluster.endpoint().queue_age_ms >= 20; }, &crowd));
  EXPECT_NE(cluster->status().to_string().find("(oldest "), std::string::npos);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.endpoint().queue_age_ms, 0u);
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
