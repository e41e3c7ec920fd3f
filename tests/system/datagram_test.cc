// SPDX-License-Identifier: MIT
// udp:// endpoints: what holds under every policy.
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <csignal>
#include <cstring>

#include "contract.hh"
#include "datagram_clients.hh"

namespace lb::test {
namespace {

bool wait_answers(TestCluster& cluster, DatagramClients& clients, uint32_t questions = 0) {
  const bool all = cluster.wait_until("the answers", [&] {
    clients.step(questions);
    return clients.all_answered() && clients.asked() >= questions;
  });
  EXPECT_EQ(clients.unexpected(), 0u);
  return all;
}

class DatagramEveryWay : public StyleTest {};
INSTANTIATE_TEST_SUITE_P(every, DatagramEveryWay,
                         testing::Combine(testing::ValuesIn(kPolicies), testing::Values(Style::blocking, Style::watch)),
                         style_test_name);

void answer_2000(const std::string& policy, Style style, const char* endpoint) {
  TestCluster cluster(policy);
  ASSERT_TRUE(cluster.start(4, replying(style, cluster.board(), endpoint)));
  DatagramClients clients(cluster.address(), 32);
  clients.ask_all();
  ASSERT_TRUE(wait_answers(cluster, clients, 2000)) << clients.describe();
  EXPECT_EQ(cluster.board().not_once(2000), 0u);
  uint64_t accepted = 0;
  for (const auto& worker : cluster.endpoint().workers) accepted += worker.accepted;
  EXPECT_EQ(accepted, 2000u) << "datagrams are counted as accepted";
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(DatagramEveryWay, N16_each_of_2000_datagrams_is_answered_once) { answer_2000(policy(), style(), kAnyUdpPort); }

TEST_P(DatagramEveryWay, what_is_queued_at_a_shutdown_is_answered) {
  const Gate gate;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto socket = worker.bind(kAnyUdpPort, {.receive_buffer = kRoomy}).value();
    gate.wait();
    return reply_all(worker, socket, style(), board);
  }));
  DatagramClients clients(cluster.address(), 40);
  clients.ask_all();
  cluster->shutdown();
  ASSERT_TRUE(cluster.wait_until("the drain", [&] { return cluster.count(Event::Kind::draining) == 2; }));
  DatagramClients late(cluster.address(), 1);
  late.ask_all();
  gate.open(2);
  EXPECT_TRUE(wait_answers(cluster, clients)) << clients.describe();
  cluster.expect_clean_shutdown();
  late.step();
  EXPECT_EQ(late.answered(), 0u) << "came too late";
}

TEST_P(DatagramEveryWay, N16_drained_worker_leaves_and_every_datagram_is_still_answered) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(3, replying(style(), cluster.board())));
  DatagramClients clients(cluster.address(), 32);
  clients.ask_all();
  ASSERT_TRUE(wait_answers(cluster, clients, 500));
  clients.ask_all();
  ASSERT_TRUE(cluster->drain(2));
  ASSERT_TRUE(cluster.wait_until("worker 2 to leave", [&] {
    clients.step(1500);
    return cluster.event(Event::Kind::exit, 2) != nullptr;
  }));
  ASSERT_TRUE(wait_answers(cluster, clients)) << clients.describe();
  EXPECT_EQ(cluster.event(Event::Kind::exit, 2)->exit_code, 0);
  clients.ask_all();
  EXPECT_TRUE(wait_answers(cluster, clients)) << clients.describe();
  EXPECT_EQ(clients.per_worker().size() > 2 ? clients.per_worker()[2] : 0, 0u);
  EXPECT_EQ(cluster.board().not_once(clients.asked()), 0u);
  cluster.expect_clean_shutdown();
}

class Datagrams : public PolicyTest {};
LB_FOR_EVERY_POLICY(Datagrams);

TEST_P(Datagrams, N16_each_of_2000_datagrams_over_ipv6_is_answered_once) {
  answer_2000(policy(), Style::blocking, "udp://[::1]:0");
}

TEST_P(Datagrams, N12_port_0_gives_all_workers_the_same_port) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(4, replying(Style::watch, cluster.board())));
  const auto endpoint = cluster.endpoint();
  EXPECT_EQ(endpoint.address.kind(), Endpoint::Kind::udp);
  EXPECT_NE(endpoint.address.port(), 0);
  ASSERT_TRUE(cluster.wait_until("the ports", [&] {
    for (uint32_t id = 1; id <= 4; ++id)
      if (cluster.board().port[id] == 0) return false;
    return true;
  }));
  for (uint32_t id = 1; id <= 4; ++id) EXPECT_EQ(cluster.board().port[id], endpoint.address.port()) << "worker " << id;
  cluster.expect_clean_shutdown();
}

TEST_P(Datagrams, N16_round_robin_is_shared_and_the_status_says_why) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, replying(Style::watch, cluster.board())));
  const auto endpoint = cluster.endpoint();
  const auto asked = Policy::parse(policy())->backend;
  EXPECT_EQ(endpoint.requested.backend, asked);
  EXPECT_EQ(endpoint.effective.backend, asked == Backend::round_robin ? Backend::shared : asked);
  if (asked == Backend::round_robin) {
    EXPECT_NE(endpoint.reason.find("round-robin"), std::string::npos) << endpoint.reason;
  }
  cluster.expect_clean_shutdown();
}

TEST_P(Datagrams, N11_second_server_on_the_port_gets_eaddrinuse_that_names_it) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, replying(Style::watch, cluster.board())));
  const Endpoint address = cluster.address();
  const UniqueFd other(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(::bind(other.get(), address.address(), address.length()), 0);
  EXPECT_EQ(errno, EADDRINUSE);
  TestCluster second(policy(), {.respawn = false});  // another of ours, with the same user and SO_REUSEPORT on its sockets
  ASSERT_TRUE(second->spawn(replying(Style::watch, second.board(), address.to_string())));
  ASSERT_TRUE(second.wait_exit(1));
  const std::string said = second.board().text.data();
  EXPECT_NE(said.find(address.to_string()), std::string::npos) << said;
  EXPECT_NE(said.find(std::strerror(EADDRINUSE)), std::string::npos) << said;
  cluster.expect_clean_shutdown();
}

TEST_P(Datagrams, call_for_the_other_kind_of_endpoint_is_an_error_that_names_the_right_one) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    const auto listened = worker.listen("udp://127.0.0.1:0");
    const auto bound = worker.bind("tcp://127.0.0.1:0");
    board.flag[0] = static_cast<uint32_t>(listened.error().code);
    board.flag[1] = static_cast<uint32_t>(bound.error().code);
    board.flag[2] = std::strstr(listened.error().op, "bind") != nullptr;
    board.flag[3] = std::strstr(bound.error().op, "call listen") != nullptr;
    board.flag[4] = static_cast<uint32_t>(worker.bind(kAnyUdpPort, {.receive_buffer = -1}).error().code);
    board.flag[5] = static_cast<uint32_t>(worker.bind("udp://localhost:1").error().code);
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(board.flag[0], unsigned{EPROTOTYPE});
  EXPECT_EQ(board.flag[1], unsigned{EPROTOTYPE});
  EXPECT_EQ(board.flag[2], 1u);
  EXPECT_EQ(board.flag[3], 1u);
  EXPECT_EQ(board.flag[4], unsigned{EINVAL});
  EXPECT_EQ(board.flag[5], unsigned{EINVAL});
  cluster.expect_clean_shutdown();
}

// A client that is connected to one of the host's addresses takes no answer from another.
TEST_P(Datagrams, answer_comes_from_the_address_that_was_asked) {
  for (const char* any : {"udp://*:0", "udp://[::]:0"}) {
    SCOPED_TRACE(any);
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(2, replying(Style::watch, cluster.board(), any)));
    const auto port = std::to_string(cluster.address().port());
    DatagramClients clients(Endpoint::parse("udp://127.0.0.5:" + port).value(), 8);
    clients.add(Endpoint::parse("udp://127.0.0.1:" + port).value(), 8);
    if (any == std::string("udp://[::]:0")) clients.add(Endpoint::parse("udp://[::1]:" + port).value(), 8);
    clients.ask_all();
    EXPECT_TRUE(wait_answers(cluster, clients)) << clients.describe();
    cluster.expect_clean_shutdown();
  }
}

TEST_P(Datagrams, N15_v6only_decides_whether_ipv4_datagrams_are_taken) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, replying(Style::watch, cluster.board(), "udp://[::]:0", {.v6only = true})));
  const auto port = std::to_string(cluster.address().port());
  const auto v4 = Endpoint::parse("udp://127.0.0.1:" + port).value();
  const UniqueFd client(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(client.get(), v4.address(), v4.length()), 0);
  ASSERT_EQ(::send(client.get(), "x", 1, 0), 1);
  char byte = 0;
  EXPECT_LT(::recv(client.get(), &byte, 1, 0), 0);  // the kernel's "port unreachable"
  EXPECT_EQ(errno, ECONNREFUSED);
  cluster.expect_clean_shutdown();
}

TEST_P(Datagrams, size_truncation_and_addresses_are_reported) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto socket = worker.bind(kAnyUdpPort).value();
    std::array<std::byte, 4> buffer{};
    for (int i = 0; i < 3; ++i) {
      const auto datagram = socket.receive(buffer);
      board.flag[static_cast<size_t>(i)] = static_cast<uint32_t>(datagram->size) + (datagram->truncated ? 100 : 0);
      if (datagram->to != socket.address()) board.fail("to: " + datagram->to.to_string());
      const std::string from = datagram->from.to_string();
      if (!socket.reply(*datagram, std::as_bytes(std::span(from)))) board.fail("reply");
    }
    return reply_all(worker, socket, Style::blocking, board);
  }));
  const UniqueFd client(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const Endpoint to = cluster.address();
  ASSERT_EQ(::connect(client.get(), to.address(), to.length()), 0);
  for (const size_t size : {size_t{0}, size_t{4}, size_t{5}})
    ASSERT_EQ(::send(client.get(), "12345", size, 0), static_cast<ssize_t>(size));
  ASSERT_TRUE(cluster.wait_until("the datagrams", [&] { return board.flag[2] != 0; }));
  EXPECT_EQ(board.flag[0], 0u);
  EXPECT_EQ(board.flag[1], 4u);
  EXPECT_EQ(board.flag[2], 104u);
  sockaddr_storage own{};
  socklen_t length = sizeof own;
  ::getsockname(client.get(), reinterpret_cast<sockaddr*>(&own), &length);
  std::array<char, 64> said{};
  ASSERT_GT(::recv(client.get(), said.data(), said.size() - 1, 0), 0);
  EXPECT_EQ(said.data(), Endpoint::from_sockaddr(reinterpret_cast<sockaddr*>(&own), length, SOCK_DGRAM)->to_string());
  cluster.expect_clean_shutdown();
}

TEST_P(Datagrams, what_a_full_receive_queue_drops_is_in_the_status) {
  const Gate gate;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto socket = worker.bind(kAnyUdpPort, {.receive_buffer = 4096}).value();
    gate.wait();
    return reply_all(worker, socket, Style::blocking, board);
  }));
  DatagramClients clients(cluster.address(), 100);
  clients.ask_all();
  const auto endpoint = cluster.endpoint();
  EXPECT_GT(endpoint.lost, 0u);
  EXPECT_LT(endpoint.lost, 100u);
  EXPECT_GT(endpoint.queued, 0u);
  gate.open();
  EXPECT_TRUE(cluster.wait_until("the rest", [&] {
    clients.step();
    return clients.answered() + endpoint.lost == 100;
  }));
  cluster.expect_clean_shutdown();
}

TEST_P(Datagrams, charged_flow_is_in_flight_until_its_token_dies) {
  const Gate gate;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto socket = worker.bind(kAnyUdpPort).value();
    {
      const LoadToken first = socket.charge();
      const LoadToken second = socket.charge();
      board.flag[0] = 1;
      gate.wait();
    }
    board.flag[0] = 2;
    return reply_all(worker, socket, Style::blocking, board);
  }));
  ASSERT_TRUE(cluster.wait_until("the charge", [&] { return board.flag[0] == 1; }));
  EXPECT_EQ(cluster.worker(1).in_flight, 2u);
  gate.open();
  ASSERT_TRUE(cluster.wait_until("its end", [&] { return board.flag[0] == 2; }));
  EXPECT_EQ(cluster.worker(1).in_flight, 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(Datagrams, plain_socket_is_there_for_system_calls_of_the_users_own) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto socket = worker.bind(kAnyUdpPort).value();
    pollfd ready{.fd = socket.fd(), .events = POLLIN, .revents = 0};
    ::poll(&ready, 1, -1);
    Answer answer{.number = 0, .who = {.worker = worker.id(), .pid = 0}};
    sockaddr_storage from{};
    iovec part{&answer.number, sizeof answer.number};
    mmsghdr messages[2]{};
    messages[0].msg_hdr = {.msg_name = &from,
                           .msg_namelen = sizeof from,
                           .msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = nullptr,
                           .msg_controllen = 0,
                           .msg_flags = 0};
    if (::recvmmsg(socket.fd(), messages, 1, MSG_DONTWAIT, nullptr) != 1) return board.fail("recvmmsg");
    const auto client =
        Endpoint::from_sockaddr(reinterpret_cast<sockaddr*>(&from), messages[0].msg_hdr.msg_namelen, SOCK_DGRAM).value();
    if (!socket.send(client, std::as_bytes(std::span(&answer, 1)))) return board.fail("send");
    return reply_all(worker, socket, Style::watch, board);
  }));
  DatagramClients clients(cluster.address(), 1);
  clients.ask_all();
  EXPECT_TRUE(wait_answers(cluster, clients));
  clients.ask_all();
  EXPECT_TRUE(wait_answers(cluster, clients));
  cluster.expect_clean_shutdown();
}

TEST_P(Datagrams, closed_socket_leaves_its_queue_to_others) {
  const Gate gate;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto socket = worker.bind(kAnyUdpPort, {.receive_buffer = kRoomy}).value();
    if (worker.id() != 1) return reply_all(worker, socket, Style::watch, board);
    gate.wait();
    socket.close();
    socket.close();
    if (socket.fd() != -1 || socket.send(socket.address(), {}).error().code != EBADF) return board.fail("closed, but not quite");
    return 0;
  }));
  DatagramClients clients(cluster.address(), 64);
  clients.ask_all();
  cluster.wait_until("some", [&] { return clients.step(), clients.answered() > 0; });
  gate.open();
  EXPECT_TRUE(wait_answers(cluster, clients)) << clients.describe();
  for (size_t i = 0; i < clients.size(); ++i) EXPECT_GE(clients.worker(i), 2u);
  EXPECT_TRUE(cluster.wait_exit(1));
  cluster.expect_clean_shutdown();
}

TEST_P(Datagrams, endpoint_that_the_last_worker_closed_can_be_bound_again) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto first = worker.bind(kAnyUdpPort).value();
    const Endpoint address = first.address();
    first.close();
    auto second = worker.bind(address);
    if (!second) return board.fail(second.error().message());
    return reply_all(worker, *second, Style::blocking, board);
  }));
  ASSERT_TRUE(cluster.wait_until("the second socket", [&] { return cluster.count(Event::Kind::listening) == 2; }));
  DatagramClients clients(cluster.address(), 10);
  clients.ask_all();
  EXPECT_TRUE(wait_answers(cluster, clients));
  cluster.expect_clean_shutdown();
}

TEST_P(Datagrams, killed_worker_loses_only_the_datagram_in_its_hands) {
  const Gate gate;
  TestCluster cluster(policy(), {.respawn = false});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto socket = worker.bind(kAnyUdpPort, {.receive_buffer = kRoomy}).value();
    std::array<std::byte, 64> buffer{};
    if (worker.id() == 1 && socket.receive(buffer)) board.flag[0] = 1;  // never to be answered
    gate.wait();
    return reply_all(worker, socket, Style::blocking, board);
  }));
  DatagramClients clients(cluster.address(), 64);
  clients.ask_all();
  ASSERT_TRUE(cluster.wait_until("worker 1 to hold one", [&] { return clients.step(), board.flag[0] == 1; }));
  ASSERT_EQ(::kill(cluster.worker(1).pid, SIGKILL), 0);
  ASSERT_TRUE(cluster.wait_exit(1));
  gate.open();
  EXPECT_TRUE(cluster.wait_until("all but one", [&] { return clients.step(), clients.answered() == 63; })) << clients.describe();
  EXPECT_EQ(board.served_twice(), 0u);
  EXPECT_TRUE(cluster.shut_down());
}

TEST_P(Datagrams, N39_flows_of_a_killed_worker_move_and_those_of_its_replacement_stay) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(3, replying(Style::watch, cluster.board())));
  DatagramClients clients(cluster.address(), 48);
  clients.ask_all();
  ASSERT_TRUE(wait_answers(cluster, clients));
  ASSERT_EQ(::kill(cluster.worker(2).pid, SIGKILL), 0);
  clients.ask_all();  // the primary may not know yet
  ASSERT_TRUE(wait_answers(cluster, clients)) << clients.describe();
  ASSERT_TRUE(cluster.wait_until("a replacement", [&] { return cluster.event(Event::Kind::listening, 4) != nullptr; }));
  clients.ask_all();
  ASSERT_TRUE(wait_answers(cluster, clients)) << clients.describe();
  EXPECT_EQ(clients.per_worker().size() > 2 ? clients.per_worker()[2] : 0, 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(Datagrams, N39_flows_of_a_stopped_worker_are_answered_by_others) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, replying(Style::blocking, cluster.board())));
  DatagramClients clients(cluster.address(), 32);
  clients.ask_all();
  ASSERT_TRUE(wait_answers(cluster, clients));
  const pid_t pid = cluster.worker(1).pid;
  ASSERT_TRUE(cluster.wait_until("worker 1 to be idle", [&] { return cluster.worker(1).in_flight == 0; }));
  stop_process(pid);
  clients.ask_all();
  EXPECT_TRUE(wait_answers(cluster, clients)) << clients.describe();
  EXPECT_EQ(clients.per_worker()[2], 32u);
  ASSERT_EQ(::kill(pid, SIGCONT), 0);
  clients.ask_all();
  EXPECT_TRUE(wait_answers(cluster, clients)) << clients.describe();
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
