// SPDX-License-Identifier: MIT
// Options::max_in_flight: a worker with as many connections in hand gets no more until one closes.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <thread>
#include <vector>

#include "contract.hh"
#include "isolation.hh"

namespace lb::test {
namespace {

class MaxInFlight : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(every, MaxInFlight, testing::ValuesIn(kRoundRobins), policy_test_name);

/// Clients that a worker has and has not answered.
unsigned held(Crowd& crowd, uint32_t worker) {
  return static_cast<unsigned>(std::count_if(crowd.begin(), crowd.end(), [=](const Client& client) {
    return client.worker() == worker && client.state() == Client::State::greeted;
  }));
}

TEST_P(MaxInFlight, worker_holds_no_more_and_the_rest_waits_in_the_primary) {
  for (const Style style : {Style::watch, Style::pollable}) {
    TestCluster cluster(policy(), {.max_in_flight = 2});
    ASSERT_TRUE(cluster.start(2, style));
    Crowd crowd;
    crowd.connect(cluster.address(), 12);
    ASSERT_TRUE(cluster.wait_until(
        "the workers to be full", [&] { return crowd.greeted() == 4 && cluster.endpoint().queued == 8; }, &crowd));
    // One at a time: as one is served, the next is given to the same worker.
    for (size_t served = 1; served <= 8; ++served) {
      const auto leaves =
          std::find_if(crowd.begin(), crowd.end(), [](const Client& client) { return client.state() == Client::State::greeted; });
      ASSERT_NE(leaves, crowd.end());
      const uint32_t worker = leaves->worker();
      leaves->ask();
      ASSERT_TRUE(cluster.wait_until(
          "the next one to be greeted",
          [&] {
            EXPECT_LE(held(crowd, 1), 2u);
            EXPECT_LE(held(crowd, 2), 2u);
            return crowd.greeted() == 4 + served && crowd.count(Client::State::finished) == served;
          },
          &crowd));
      EXPECT_EQ(held(crowd, worker), 2u);
    }
    EXPECT_EQ(cluster.endpoint().queued, 0u);
    crowd.ask_all();
    EXPECT_TRUE(cluster.wait_finished(crowd));
    EXPECT_EQ(cluster.board().not_once(12), 0u);
    cluster.expect_clean_shutdown();
  }
}

/// An event loop that knows nothing but `fd`, the cluster's: no timeout ever calls poll.
bool drive(TestCluster& cluster, int fd, Crowd& crowd, const std::function<bool()>& so) {
  while (!so()) {
    std::vector<pollfd> ready{{.fd = fd, .events = POLLIN, .revents = 0}};
    for (auto& client : crowd) {
      if (!client.over()) ready.push_back(client.interest());
    }
    if (::poll(ready.data(), ready.size(), 20'000) < 1) return false;
    if (ready[0].revents != 0 && !cluster->poll(std::chrono::milliseconds(0))) return false;
    crowd.step();
  }
  return true;
}

TEST_P(MaxInFlight, primary_that_sleeps_is_woken_when_a_connection_closes) {
  constexpr size_t kClients = 10;
  const Gate close;
  TestCluster cluster(policy(), {.max_in_flight = 1});
  auto& board = cluster.board();
  // The worker asks for nothing in between: nothing but the close can wake the primary.
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    pollfd ready{.fd = listener.fd(), .events = POLLIN, .revents = 0};
    for (size_t i = 0; i < kClients; ++i) {
      ::poll(&ready, 1, -1);
      auto connection = listener.try_accept();
      if (!connection || !*connection) return board.fail("try_accept");
      say_hello(worker, (*connection)->fd());
      close.wait();
    }
    return answer_all(worker, listener, Style::watch, board);
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), kClients);
  const int fd = cluster->fd();  // once: asking for it looks for work
  for (size_t i = 0; i < kClients; ++i) {
    const auto sleeps = [&] {
      pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
      return crowd[i].greeted() && cluster.endpoint().queued == kClients - 1 - i && ::poll(&ready, 1, 0) == 0;
    };
    ASSERT_TRUE(drive(cluster, fd, crowd, sleeps)) << "in vain\n" << cluster.describe() << crowd.describe();
    close.open();
  }
  cluster.expect_clean_shutdown();
}

TEST_P(MaxInFlight, connections_that_a_framework_holds_count_until_their_token_goes) {
  const Gate give_back;
  TestCluster cluster(policy(), {.max_in_flight = 3});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    std::vector<Released> held;
    while (held.size() < 3) {
      held.push_back(listener.accept()->release());
      say_hello(worker, held.back().fd.get());
    }
    give_back.wait();
    std::thread([&] { held.clear(); }).join();  // on any thread
    return answer_all(worker, listener, Style::blocking, board);
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 6);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "three to be taken and three to wait", [&] { return crowd.greeted() == 3 && cluster.endpoint().queued == 3; }, &crowd));
  give_back.open();
  EXPECT_TRUE(cluster.wait_until(
      "the other three", [&] { return crowd.count(Client::State::finished) == 3; }, &crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(MaxInFlight, is_for_all_endpoints_of_a_worker_together) {
  const Gate let_go;
  TestCluster cluster(policy(), {.max_in_flight = 3});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(
      1,
      [&](Worker& worker) {
        Listener listeners[] = {worker.listen(kAnyPort).value(), worker.listen(kAnyPort).value()};
        std::vector<Connection> held;
        bool hold = true;
        while (!(worker.draining() && listeners[0].drained() && listeners[1].drained())) {
          pollfd ready[] = {{.fd = listeners[0].fd(), .events = POLLIN, .revents = 0},
                            {.fd = listeners[1].fd(), .events = POLLIN, .revents = 0},
                            {.fd = worker.fd(), .events = POLLIN, .revents = 0},
                            {.fd = let_go.fd(), .events = static_cast<short>(hold ? POLLIN : 0), .revents = 0}};
          ::poll(ready, 4, -1);
          hold &= ready[3].revents == 0;
          if (!hold) held.clear();
          if (!worker.dispatch()) return board.fail("dispatch");
          for (auto& listener : listeners) {
            while (auto connection = listener.try_accept().value()) {
              say_hello(worker, connection->fd());
              if (hold) held.push_back(std::move(*connection));
            }
          }
        }
        return 0;
      },
      2));
  const auto endpoints = cluster->status().endpoints;
  ASSERT_EQ(endpoints.size(), 2u);
  Crowd crowd;
  for (int i = 0; i < 5; ++i) {
    for (const auto& endpoint : endpoints) crowd.connect(endpoint.address, 1);
  }
  ASSERT_TRUE(cluster.wait_until(
      "three to be taken and the rest to wait",
      [&] {
        const auto now = cluster->status().endpoints;
        return crowd.greeted() >= 3 && now[0].queued + now[1].queued == 7;
      },
      &crowd));
  EXPECT_EQ(crowd.greeted(), 3u);
  let_go.open();
  EXPECT_TRUE(cluster.wait_until(
      "all to be taken and closed", [&] { return crowd.all(Client::State::lost) && crowd.greeted() == 10; }, &crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(MaxInFlight, each_of_2000_connections_is_served_once_under_a_tight_limit) {
  for (const Style style : kStyles) {
    TestCluster cluster(policy(), {.max_in_flight = 1});
    ASSERT_TRUE(cluster.start(3, style));
    const Load load({.to = cluster.address(), .count = 2000, .at_once = 32});
    ASSERT_TRUE(cluster.wait_over(load));
    EXPECT_EQ(load.answered(), 2000u) << load.describe() << cluster.describe();
    EXPECT_EQ(cluster.board().not_once(2000), 0u);
    cluster.expect_clean_shutdown();
  }
}

class MaxInFlightElsewhere : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(every, MaxInFlightElsewhere, testing::Values("shared", "reuseport", "reuseport:hash"), policy_test_name);

TEST_P(MaxInFlightElsewhere, status_says_that_it_does_not_hold_and_strict_makes_it_an_error) {
  {
    TestCluster cluster(policy(), {.max_in_flight = 1});
    ASSERT_TRUE(cluster.start(1, Style::watch));
    EXPECT_NE(cluster.endpoint().reason.find("max_in_flight"), std::string::npos) << cluster.endpoint().reason;
    cluster.expect_clean_shutdown();
  }
  const ScopedVariable strict("LB_STRICT", "1");
  TestCluster cluster(policy(), {.respawn = false, .max_in_flight = 1});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    const auto refused = worker.listen(kAnyPort);
    return refused ? 0 : board.fail(refused.error().message());
  }));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_NE(std::string(board.text.data()).find("max_in_flight"), std::string::npos) << board.text.data();
}

TEST(MaxInFlightOption, beyond_what_can_be_counted_is_an_error) {
  const auto refused = Cluster::create({.max_in_flight = 0x80000000});
  EXPECT_EQ(refused.error().code, EINVAL);
  EXPECT_NE(refused.error().message().find("max_in_flight"), std::string::npos) << refused.error().message();
}

}  // namespace
}  // namespace lb::test
