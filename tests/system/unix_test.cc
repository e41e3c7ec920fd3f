// SPDX-License-Identifier: MIT
// UNIX sockets: every connection is served, under every policy that can, and a shutdown loses none.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "contract.hh"
#include "isolation.hh"
#include "refusal.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

class UnixEveryWay : public StyleTest {};
LB_FOR_EVERY_POLICY_AND_STYLE(UnixEveryWay);

TEST_P(UnixEveryWay, N14_each_of_1000_connections_to_a_path_is_served_once) {
  const Folder folder;
  const auto endpoint = "unix:" + folder.path("socket");
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(4, style(), endpoint));
  EXPECT_EQ(cluster.address().to_string(), endpoint);
  const Load load({.to = cluster.address(), .count = 1000, .at_once = 32});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 1000u) << load.describe() << cluster.describe();
  EXPECT_EQ(cluster.board().not_once(1000), 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(UnixEveryWay, N14_shutdown_under_load_answers_every_client_that_got_through) {
  const Folder folder;
  for (const auto& endpoint : {"unix:" + folder.path("socket"), abstract_endpoint()}) {
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(4, style(), endpoint));
    const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 16, .until_refused = true});
    ASSERT_TRUE(cluster.wait_until(
        "load", [&] { return load.answered() >= 300; }, nullptr, &load));
    cluster.expect_clean_shutdown();
    ASSERT_TRUE(cluster.wait_over(load));
    EXPECT_EQ(load.lost(), 0u) << endpoint << load.describe();
    EXPECT_GT(load.refused(), 0u) << endpoint << load.describe();
    EXPECT_EQ(load.answered() + load.refused(), load.started());
    EXPECT_EQ(cluster.board().served_twice(), 0u);
  }
}

class Unix : public PolicyTest {};
LB_FOR_EVERY_POLICY(Unix);

TEST_P(Unix, N14_abstract_name_is_served) {
  const auto endpoint = abstract_endpoint();
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking, endpoint));
  EXPECT_EQ(cluster.address().to_string(), endpoint);
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Unix, N14_every_worker_takes_part) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(4, Style::blocking, abstract_endpoint()));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 4));
  EXPECT_EQ(max_over_mean(crowd.per_worker(), 1, 4), 1.0) << shares(crowd.per_worker());
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.board().not_once(crowd.size()), 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(Unix, N14_peer_is_the_clients_name_or_unnamed) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  const auto endpoint = abstract_endpoint();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(endpoint).value();
    while (auto connection = listener.accept()) {
      const auto peer = connection->peer();
      std::snprintf(board.text.data(), board.text.size(), "%s", peer ? peer->to_string().c_str() : peer.error().op);
      ++board.flag[0];
    }
    return 0;
  }));
  const auto to = Endpoint::parse(endpoint).value();
  const auto name = abstract_endpoint();
  const UniqueFd named = make_socket(name, -1);
  ASSERT_EQ(::connect(named.get(), to.address(), to.length()), 0) << std::strerror(errno);
  ASSERT_TRUE(cluster.wait_until("the first client", [&] { return board.flag[0] == 1; }));
  EXPECT_EQ(board.text.data(), name);
  const UniqueFd unnamed(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(unnamed.get(), to.address(), to.length()), 0) << std::strerror(errno);
  ASSERT_TRUE(cluster.wait_until("the second client", [&] { return board.flag[0] == 2; }));
  EXPECT_STREQ(board.text.data(), "unix:");
  EXPECT_TRUE(cluster.shut_down());
}

TEST_P(Unix, N14_connections_that_wait_for_a_busy_worker_are_in_the_status_and_survive_a_shutdown) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, Style::blocking, abstract_endpoint()));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 1));
  const auto waiting = [&] {
    unsigned count = cluster.endpoint().queued;
    for (const auto& load : cluster.endpoint().workers) count += load.backlog;
    return count;
  };
  EXPECT_TRUE(cluster.wait_until("all to be seen", [&] { return waiting() == crowd.size() - 1; }));
  cluster->shutdown();
  ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Unix, N14_policy_that_cannot_be_is_shared_and_the_status_says_why) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking, abstract_endpoint()));
  const auto status = cluster.endpoint();
  const auto asked = Policy::parse(policy()).value();
  EXPECT_EQ(status.requested, asked);
  if (asked.backend == Backend::reuseport) {
    EXPECT_EQ(status.effective.backend, Backend::shared);
    expect_contains(status.reason, "UNIX");
    expect_contains(cluster->status().to_string(), status.reason);
  } else {
    EXPECT_EQ(status.effective.backend, asked.backend);
  }
  cluster.expect_clean_shutdown();
}

TEST(UnixStrict, N14_reuseport_on_a_unix_socket_is_an_error_that_says_why_but_auto_is_not) {
  const ScopedVariable strict("LB_STRICT", "1");
  const auto endpoint = abstract_endpoint();
  {
    TestCluster cluster("reuseport");
    expect_contains(refusal(cluster, endpoint, EOPNOTSUPP), "LB_STRICT: reuseport on " + endpoint);
    cluster.expect_clean_shutdown();
  }
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, Style::blocking, endpoint));
  EXPECT_EQ(cluster.endpoint().effective.backend, Backend::shared);
  expect_contains(cluster.endpoint().reason, "UNIX");
  cluster.expect_clean_shutdown();
}

/// An event loop that counts how often it is woken while it drains and waits for its last client.
int count_wakes(Worker& worker, Listener& listener, Board& board) {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  const auto add = [&](int fd, uint64_t data) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = data}};
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event);
  };
  add(worker.fd(), 0);
  if (!listener.watch(epoll.get(), 1)) return board.fail("watch");
  std::optional<Connection> held;
  while (true) {
    epoll_event event{};
    if (::epoll_wait(epoll.get(), &event, 1, -1) < 0) continue;
    if (worker.draining()) ++board.flag[0];
    if (event.data.u64 == 2) return 0;  // the client has left
    if (event.data.u64 == 0 && !worker.dispatch()) return board.fail("dispatch");
    while (auto connection = listener.try_accept().value()) {
      held = std::move(*connection);
      say_hello(worker, held->fd());
      add(held->fd(), 2);
    }
    if (listener.drained()) board.flag[1] = 1;
  }
}

class Wakes : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(exclusive, Wakes, testing::Bool());

TEST_P(Wakes, N14_loop_that_drains_is_not_woken_by_a_queue_that_refuses) {
  TestCluster cluster("shared");
  auto& board = cluster.board();
  const auto endpoint = Endpoint::parse(abstract_endpoint()).value();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(endpoint, {.exclusive = GetParam()}).value();
    return count_wakes(worker, listener, board);
  }));
  Crowd crowd;
  crowd.connect(endpoint, 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  cluster->shutdown();
  ASSERT_TRUE(cluster.wait_until("the worker to be drained", [&] { return board.flag[1] == 1; }));
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(2)));  // room for many a wake
  EXPECT_LE(board.flag[0], 10u);
  crowd.leave_all();
  EXPECT_TRUE(cluster.wait_until("the end", [&] { return cluster->done(); }));
}

}  // namespace
}  // namespace lb::test
