// SPDX-License-Identifier: MIT
// Every connection is served, once, under every policy and in every style.
#include <fcntl.h>
#include <unistd.h>

#include "contract.hh"

namespace lb::test {
namespace {

constexpr const char* kAnyPort6 = "tcp://[::1]:0";

void serve_2000(const Setting& setting, Style style, const char* endpoint) {
  TestCluster cluster(setting);
  ASSERT_TRUE(cluster.start(4, style, endpoint));
  const Load load({.to = cluster.address(), .count = 2000, .at_once = 32});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 2000u) << load.describe() << cluster.describe();
  EXPECT_EQ(cluster.board().not_once(2000), 0u);
  cluster.expect_clean_shutdown();
}

class ServeEveryWay : public StyleTest {};
LB_FOR_EVERY_POLICY_AND_STYLE(ServeEveryWay);

TEST_P(ServeEveryWay, each_of_2000_connections_is_served_once) { serve_2000(policy(), style(), kAnyPort); }

TEST_P(ServeEveryWay, client_that_leaves_early_disturbs_nobody) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, style()));
  Crowd crowd;
  for (int i = 0; i < 20; ++i) {
    Client hasty(cluster.address(), 0);
    hasty.leave();
    crowd.connect(cluster.address(), 1);
  }
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

class ServeEveryKind : public KindTest {};
LB_FOR_EVERY_POLICY_AND_KIND(ServeEveryKind);

class ServeOtherKind : public KindTest {};
LB_FOR_EVERY_POLICY_AND_OTHER_KIND(ServeOtherKind);

TEST_P(ServeOtherKind, each_of_2000_connections_is_served_once) { serve_2000(setting(), Style::watch, kAnyPort); }

class Serve : public PolicyTest {};
LB_FOR_EVERY_POLICY(Serve);

TEST_P(Serve, each_of_2000_connections_over_ipv6_is_served_once) { serve_2000(policy(), Style::blocking, kAnyPort6); }

TEST_P(ServeEveryKind, N40_fifty_connections_at_once_are_all_served_and_every_worker_takes_part) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(4, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 50);
  ASSERT_TRUE(cluster.wait_until(
      "every worker to be busy", [&] { return crowd.greeted() == 4; }, &crowd));
  EXPECT_EQ(max_over_mean(crowd.per_worker(), 1, 4), 1.0) << shares(crowd.per_worker());
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.board().not_once(50), 0u);
  cluster.expect_clean_shutdown();
}

/// Selectors that serve as reuseport does, and are not in every test of the contract.
class ServeSelector : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(each, ServeSelector, testing::Values("reuseport:sticky", "reuseport:cpu", "reuseport:hermes"),
                         policy_test_name);

TEST_P(ServeSelector, each_of_2000_connections_is_served_once_and_the_status_names_it) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(4, Style::blocking));
  if (cluster.endpoint().rung.rfind("eBPF", 0) == 0) {
    EXPECT_EQ(cluster.endpoint().effective.to_string(), policy());
  }
  const Load load({.to = cluster.address(), .count = 2000, .at_once = 32});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 2000u) << load.describe() << cluster.describe();
  EXPECT_EQ(cluster.board().not_once(2000), 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(Serve, no_worker_idles_while_a_connection_waits) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(4, Style::blocking));
  for (int round = 0; round < 10; ++round) {
    Crowd crowd;
    crowd.connect(cluster.address(), 4);
    ASSERT_TRUE(cluster.wait_greeted(crowd)) << "in round " << round;
    crowd.ask_all();
    ASSERT_TRUE(cluster.wait_finished(crowd));
  }
  cluster.expect_clean_shutdown();
}

TEST_P(ServeEveryKind, worker_that_becomes_idle_takes_what_waits_for_a_busy_one) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 2);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  crowd.connect(cluster.address(), 8);  // some of them wait for worker 1, which stays busy
  for (auto& client : crowd) {
    if (client.worker() != 1) client.ask();
  }
  EXPECT_TRUE(cluster.wait_until(
      "worker 2 to serve all but one", [&] { return crowd.count(Client::State::finished) == 9; }, &crowd));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Serve, peer_is_the_clients_address) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    while (auto connection = listener.accept()) {
      const auto peer = connection->peer();
      std::snprintf(board.text.data(), board.text.size(), "%s", peer ? peer->to_string().c_str() : peer.error().message().c_str());
      answer_one(worker, *connection, board);
    }
    return 0;
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  EXPECT_EQ(std::string(board.text.data()), crowd[0].address().to_string());
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Serve, accepted_sockets_are_close_on_exec_and_block_only_if_accept_waited) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    auto waited = listener.accept();
    board.flag[0] = static_cast<uint32_t>(::fcntl(waited->fd(), F_GETFL) & O_NONBLOCK);
    board.flag[1] = static_cast<uint32_t>(::fcntl(waited->fd(), F_GETFD) & FD_CLOEXEC);
    answer_one(worker, *waited, board);
    waited.reset();
    pollfd ready{.fd = listener.fd(), .events = POLLIN, .revents = 0};
    std::optional<Connection> tried;
    while (!tried) {
      ::poll(&ready, 1, -1);
      tried = listener.try_accept().value();
    }
    board.flag[2] = static_cast<uint32_t>(::fcntl(tried->fd(), F_GETFL) & O_NONBLOCK);
    board.flag[3] = static_cast<uint32_t>(::fcntl(tried->fd(), F_GETFD) & FD_CLOEXEC);
    say_hello(worker, tried->fd());
    tried.reset();
    return answer_all(worker, listener, Style::blocking, board);
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  EXPECT_EQ(board.flag[0], 0u) << "accept() gave a non-blocking socket";
  EXPECT_EQ(board.flag[1], unsigned{FD_CLOEXEC});
  EXPECT_EQ(board.flag[2], unsigned{O_NONBLOCK});
  EXPECT_EQ(board.flag[3], unsigned{FD_CLOEXEC});
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
