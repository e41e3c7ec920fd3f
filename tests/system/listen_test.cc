// SPDX-License-Identifier: MIT
// What a worker may ask to listen on, and what it is told.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <utility>

#include "contract.hh"
#include "isolation.hh"

namespace lb::test {
namespace {

class Listen : public PolicyTest {};
LB_FOR_EVERY_POLICY(Listen);

class ListenEveryKind : public KindTest {};
LB_FOR_EVERY_POLICY_AND_KIND(ListenEveryKind);

/// A socket that occupies a port.
struct Occupied {
  UniqueFd fd;
  Endpoint endpoint;
};

Occupied occupy_any_port() {
  const auto any = Endpoint::parse(kAnyPort).value();
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(fd.get(), any.address(), any.length()), 0) << std::strerror(errno);
  EXPECT_EQ(::listen(fd.get(), 1), 0);
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  return {std::move(fd), Endpoint::from_sockaddr(reinterpret_cast<sockaddr*>(&address), length).value()};
}

TEST_P(ListenEveryKind, N12_port_0_gives_all_workers_the_same_port) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(4, Style::blocking));
  const auto endpoint = cluster.endpoint();
  EXPECT_EQ(endpoint.asked.port(), 0);
  EXPECT_NE(endpoint.address.port(), 0);
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 4));  // all four have noted their port
  for (uint32_t id = 1; id <= 4; ++id) EXPECT_EQ(cluster.board().port[id], endpoint.address.port()) << "worker " << id;
  for (const auto& seen : cluster.events()) {
    EXPECT_TRUE(!seen.at || seen.at->address == endpoint.address);
  }
  EXPECT_EQ(cluster->status().endpoints.size(), 1u);
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

TEST_P(Listen, worker_serves_two_endpoints) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(
      2,
      [&](Worker& worker) {
        return answer_both(worker, {worker.listen("tcp://127.0.0.1:0").value(), worker.listen("tcp://[::1]:0").value()}, board);
      },
      2));
  const auto status = cluster->status();
  ASSERT_EQ(status.endpoints.size(), 2u);
  EXPECT_EQ(status.endpoints[0].address.family(), AF_INET);
  EXPECT_EQ(status.endpoints[1].address.family(), AF_INET6);
  Crowd crowd;
  for (int i = 0; i < 10; ++i) {
    for (const auto& endpoint : status.endpoints) crowd.connect(endpoint.address, 1);
  }
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(board.not_once(20), 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(Listen, N10_nth_listen_on_one_endpoint_pairs_with_the_nth_of_the_other_workers) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(
      2,
      [&](Worker& worker) {
        auto first = worker.listen(kAnyPort).value();
        auto second = worker.listen(kAnyPort).value();
        board.flag[worker.id()] = first.address().port();
        board.flag[worker.id() + 2] = second.address().port();
        return answer_all(worker, second, Style::blocking, board);
      },
      2));
  ASSERT_TRUE(cluster.wait_until("the ports", [&] { return board.flag[3] != 0 && board.flag[4] != 0; }));
  EXPECT_EQ(board.flag[1], board.flag[2]);
  EXPECT_EQ(board.flag[3], board.flag[4]);
  EXPECT_NE(board.flag[1], board.flag[3]);
  cluster.expect_clean_shutdown();
}

TEST_P(Listen, N11_busy_port_is_an_error_that_names_the_endpoint_and_a_retry_succeeds_once_it_is_free) {
  auto occupied = occupy_any_port();
  const auto endpoint = occupied.endpoint;
  const Gate retry;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    occupied.fd.reset();  // the copy that this process inherited
    if (const auto refused = worker.listen(endpoint); !refused) {
      std::snprintf(board.text.data(), board.text.size(), "%s", refused.error().message().c_str());
      board.flag[0] = static_cast<uint32_t>(refused.error().code);
    }
    board.flag[1] = 1;
    retry.wait();
    auto listener = worker.listen(endpoint);
    if (!listener) return board.fail(listener.error().message());
    return answer_all(worker, *listener, Style::blocking, board);
  }));
  ASSERT_TRUE(cluster.wait_until("the worker to be told", [&] { return board.flag[1] == 1; }));
  EXPECT_EQ(board.flag[0], unsigned{EADDRINUSE});
  EXPECT_NE(std::string(board.text.data()).find(endpoint.to_string()), std::string::npos) << board.text.data();
  EXPECT_NE(std::string(board.text.data()).find(std::strerror(EADDRINUSE)), std::string::npos) << board.text.data();
  EXPECT_EQ(cluster.count(Event::Kind::listening), 0u);
  occupied.fd.reset();
  retry.open();
  ASSERT_TRUE(cluster.wait_until("the worker to listen", [&] { return cluster.count(Event::Kind::listening) == 1; }));
  Crowd crowd;
  crowd.connect(endpoint, 10);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Listen, malformed_endpoint_is_an_error_at_once) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    const auto refused = worker.listen("tcp://localhost:80");
    board.flag[0] = static_cast<uint32_t>(refused.error().code);
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(board.flag[0], unsigned{EINVAL});
  cluster.expect_clean_shutdown();
}

TEST_P(Listen, N15_v6only_decides_whether_ipv4_clients_are_taken) {
  for (const bool v6only : {false, true}) {
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(2, answering(Style::blocking, cluster.board(), "tcp://[::]:0", {.v6only = v6only})));
    const auto port = std::to_string(cluster.address().port());
    Crowd crowd;
    crowd.connect(Endpoint::parse("tcp://127.0.0.1:" + port).value(), 4);
    crowd.ask_all();
    const auto expected = v6only ? Client::State::refused : Client::State::finished;
    EXPECT_TRUE(cluster.wait_until(
        "the IPv4 clients", [&] { return crowd.all(expected); }, &crowd))
        << v6only;
    crowd.connect(Endpoint::parse("tcp://[::1]:" + port).value(), 4);
    crowd.ask_all();
    EXPECT_TRUE(cluster.wait_until(
        "the IPv6 clients", [&] { return crowd.count(Client::State::finished) == (v6only ? 4u : 8u); }, &crowd));
    cluster.expect_clean_shutdown();
  }
}

TEST_P(Listen, N25_worker_that_closes_its_listener_leaves_its_queue_to_others) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() == 2) return answer_all(worker, listener, Style::blocking, board);
    if (auto connection = listener.accept()) answer_one(worker, *connection, board);
    listener.close();
    listener.close();
    return 0;
  }));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 2));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(crowd.per_worker()[1], 1u);
  EXPECT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->exit_code, 0);
  cluster.expect_clean_shutdown();
}

TEST_P(Listen, N25_endpoint_that_the_last_worker_closed_can_be_listened_on_again) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto first = worker.listen(kAnyPort).value();
    const Endpoint address = first.address();
    first.close();
    auto second = worker.listen(address);  // free again: nobody holds the old socket
    if (!second) return 3;
    return answer_all(worker, *second, Style::blocking, board);
  }));
  ASSERT_TRUE(cluster.wait_until("the second listen", [&] { return cluster.count(Event::Kind::listening) == 2; }));
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

/// It is the only one just then, and clients wait there.
TEST_P(Listen, worker_that_cannot_take_up_an_endpoint_leaves_it_and_those_who_wait_there) {
  Options options;
  options.respawn = false;
  TestCluster cluster(policy(), std::move(options));
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  stop_process(cluster.worker(1).pid);
  Crowd crowd;
  crowd.connect(cluster.address(), 8);
  ASSERT_EQ(::kill(cluster.worker(1).pid, SIGKILL), 0);
  ASSERT_TRUE(cluster.wait_exit(1));
  Board& board = cluster.board();
  const WorkerFunction at_second_try = [&board](Worker& worker) {
    limit_descriptors(::getpid(), 3);
    const auto failed = worker.listen(kAnyPort);
    limit_descriptors(::getpid(), 100);
    if (failed || failed.error().code != EMFILE) return board.fail("listen without descriptors");
    auto listener = worker.listen(kAnyPort);
    return listener ? answer_all(worker, *listener, Style::watch, board) : board.fail(listener.error().message());
  };
  ASSERT_TRUE(cluster.start(1, at_second_try));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_TRUE(crowd.all(Client::State::finished)) << crowd.describe();
  EXPECT_EQ(board.failures, 0u) << board.text.data();
  EXPECT_TRUE(cluster.shut_down());
}

TEST(ListenAlone, worker_that_asks_for_ever_more_that_cannot_be_leaves_room_for_the_errors_of_others) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    for (int i = 0; i < 1100; ++i) {
      const auto refused = worker.listen("unix:/no/such/folder/" + std::to_string(i));
      if (refused || refused.error().code != ENOENT) return cluster.board().fail("it was not refused");
    }
    return answering(Style::watch, cluster.board())(worker);
  }));
  EXPECT_STREQ(cluster->drain(4711).error().op, "drain worker 4711");
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
