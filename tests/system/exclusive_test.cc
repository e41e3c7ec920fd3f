// SPDX-License-Identifier: MIT
// ListenOptions::exclusive: a worker binds by itself and shares with nobody.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include <csignal>
#include <set>

#include "contract.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

constexpr ListenOptions kExclusive{.exclusive = true};

/// The address that the worker listens on by itself.
Endpoint address_of_worker(TestCluster& cluster, uint32_t worker) {
  const auto* listening = cluster.event(Event::Kind::listening, worker);
  return listening != nullptr && listening->at ? listening->at->address : Endpoint();
}

class Exclusive : public PolicyTest {};
LB_FOR_EVERY_POLICY(Exclusive);

TEST_P(Exclusive, N34_each_worker_has_a_port_of_its_own_and_the_primary_knows_of_it) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(3, answering(Style::blocking, cluster.board(), kAnyPort, kExclusive)));
  const auto status = cluster->status();
  ASSERT_EQ(status.endpoints.size(), 3u);
  std::set<in_port_t> ports;
  for (const auto& endpoint : status.endpoints) {
    ports.insert(endpoint.address.port());
    EXPECT_EQ(endpoint.asked.to_string(), kAnyPort);
    ASSERT_EQ(endpoint.workers.size(), 1u);
    EXPECT_EQ(endpoint.rung, "exclusive to worker " + std::to_string(endpoint.workers[0].worker));
    EXPECT_TRUE(listening_at(endpoint.address).empty()) << "the primary holds a copy";
  }
  EXPECT_EQ(ports.size(), 3u);
  EXPECT_EQ(ports.count(0), 0u);
  for (const auto& worker : status.workers) EXPECT_EQ(worker.state, WorkerState::listening);
  Crowd crowd;
  for (uint32_t id = 1; id <= 3; ++id) crowd.connect(address_of_worker(cluster, id), 5);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  for (size_t i = 0; i < crowd.size(); ++i) EXPECT_EQ(crowd[i].worker(), i / 5 + 1);
  for (const auto& endpoint : cluster->status().endpoints) EXPECT_EQ(endpoint.workers[0].accepted, 5u);
  cluster.expect_clean_shutdown();
}

TEST_P(Exclusive, N34_connections_in_flight_are_counted) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, answering(Style::watch, cluster.board(), kAnyPort, kExclusive)));
  Crowd crowd;
  crowd.connect(address_of_worker(cluster, 2), 7);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  EXPECT_TRUE(cluster.wait_until("the count", [&] { return cluster.worker(2).in_flight == 7; }));
  EXPECT_EQ(cluster.worker(2).accepted, 7u);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  EXPECT_TRUE(cluster.wait_until("the count", [&] { return cluster.worker(2).in_flight == 0; }));
  cluster.expect_clean_shutdown();
}

/// The first worker listens on `endpoint` in one way; then it and another ask for the same in each way.
void expect_taken(const std::string& policy, const std::string& endpoint, bool exclusive_first) {
  const Gate taken;
  TestCluster cluster(policy);
  auto& board = cluster.board();
  const auto& asked = [&](Worker& worker, const Endpoint& address, bool exclusive) {
    const auto refused = worker.listen(address, {.exclusive = exclusive});
    const auto said = refused.error().message();
    if (refused.error().code != EADDRINUSE || said.find(address.to_string()) == std::string::npos) board.fail("got: " + said);
    ++board.flag[0];
  };
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(endpoint, {.exclusive = exclusive_first});
    if (!listener) return board.fail(listener.error().message());
    asked(worker, listener->address(), true);
    if (exclusive_first) asked(worker, listener->address(), false);
    return answer_all(worker, *listener, Style::blocking, board);
  }));
  const Endpoint address = cluster.address();
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    asked(worker, address, true);
    if (exclusive_first) asked(worker, address, false);
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_exit(2));
  EXPECT_TRUE(cluster.wait_until("both to be told", [&] { return board.flag[0] == (exclusive_first ? 4u : 2u); }));
  Crowd crowd;
  crowd.connect(address, 10);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd)) << "whoever came first goes on";
  EXPECT_EQ(cluster->status().endpoints.size(), 1u);
  cluster.expect_clean_shutdown();
}

TEST_P(Exclusive, N34_port_is_taken_for_everybody_else_and_for_the_worker_itself) { expect_taken(policy(), kAnyPort, true); }

TEST_P(Exclusive, N34_port_that_the_workers_share_is_taken_for_one_that_wants_it_alone) { expect_taken(policy(), kAnyPort, false); }

TEST_P(Exclusive, N34_unix_path_is_the_workers_own_and_goes_with_its_listener) {
  const Folder folder;
  const auto path = folder.path("socket");
  expect_taken(policy(), "unix:" + path, true);
  struct stat about {};
  EXPECT_NE(::lstat(path.c_str(), &about), 0) << "the path is left";
}

TEST_P(Exclusive, N34_killed_workers_endpoint_is_forgotten_and_its_replacement_has_its_own) {
  const auto occupied = address_of(make_socket(kAnyPort).get());  // a free port
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, cluster.board(), occupied.to_string(), kExclusive)));
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_until("the replacement", [&] { return cluster.event(Event::Kind::listening, 2) != nullptr; }));
  const auto status = cluster->status();
  ASSERT_EQ(status.endpoints.size(), 1u);
  EXPECT_EQ(status.endpoints[0].workers.at(0).worker, 2u);
  Crowd crowd;
  crowd.connect(occupied, 5);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

/// No policy is at work here: one stands for all.
class ExclusiveEveryWay : public testing::TestWithParam<Style> {};
INSTANTIATE_TEST_SUITE_P(style, ExclusiveEveryWay, testing::ValuesIn(kStyles),
                         [](const auto& style) { return name_of(style.param); });

TEST_P(ExclusiveEveryWay, N34_drain_under_load_answers_every_client_that_got_through) {
  const Folder folder;
  for (const auto& endpoint : {std::string(kAnyPort), "unix:" + folder.path("socket")}) {
    for (const bool all : {false, true}) {
      TestCluster cluster("shared");
      ASSERT_TRUE(cluster.start(1, answering(GetParam(), cluster.board(), endpoint, kExclusive)));
      const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 16, .until_refused = true});
      ASSERT_TRUE(cluster.wait_until(
          "load", [&] { return load.answered() >= 300; }, nullptr, &load));
      if (!all) {
        ASSERT_TRUE(cluster->drain(1));
        ASSERT_TRUE(cluster.wait_exit(1));
      }
      cluster.expect_clean_shutdown();
      ASSERT_TRUE(cluster.wait_over(load));
      EXPECT_EQ(load.lost(), 0u) << load.describe();
      EXPECT_GT(load.refused(), 0u) << load.describe();
      EXPECT_EQ(load.answered() + load.refused(), load.started());
    }
  }
}

/// Answers until it is drained, and notes on the board that it knows it has to leave.
int answer_and_tell(Worker& worker, Listener& listener, Board& board) {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event told{.events = EPOLLIN, .data = {.u64 = 0}};
  ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, worker.fd(), &told);
  if (!listener.watch(epoll.get(), 1)) return board.fail("watch");
  while (!listener.drained()) {
    epoll_event event{};
    if (::epoll_wait(epoll.get(), &event, 1, -1) < 0) continue;
    if (event.data.u64 == 0 && !worker.dispatch()) return board.fail("dispatch");
    while (auto connection = listener.try_accept().value()) {
      ::fcntl(connection->fd(), F_SETFL, 0);
      answer_one(worker, *connection, board);
    }
    if (worker.draining()) board.flag[0] = 1;
  }
  return 0;
}

TEST(ExclusiveAlone, N34_drain_waits_for_a_handshake_that_is_under_way) {
  TestCluster cluster("shared");
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort, {.exclusive = true, .defer_accept_s = 60}).value();
    return answer_and_tell(worker, listener, board);
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);  // half-open for the worker until it sends something
  ASSERT_TRUE(cluster->drain(1));
  ASSERT_TRUE(cluster.wait_until("the worker to know", [&] { return board.flag[0] == 1; }));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  ASSERT_TRUE(cluster.wait_exit(1));
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
