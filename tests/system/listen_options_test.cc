// SPDX-License-Identifier: MIT
// Which listeners are one endpoint, and what is set on its sockets.
#include <net/if.h>
#include <netinet/tcp.h>

#include <cstring>

#include "contract.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << '"' << text << "\" does not contain \"" << part << '"';
}

class ListenOn : public PolicyTest {};
LB_FOR_EVERY_POLICY(ListenOn);

/// What a further worker is told when it asks for `endpoint`; no error: "".
std::string refusal(TestCluster& cluster, const std::string& endpoint, const ListenOptions& options) {
  Board& board = cluster.board();
  board.text[0] = '\0';
  const auto id = cluster->spawn([&](Worker& worker) {
    const auto listener = worker.listen(endpoint, options);
    if (!listener) std::snprintf(board.text.data(), board.text.size(), "%s", listener.error().message().c_str());
    return 0;
  });
  EXPECT_TRUE(id && cluster.wait_exit(*id));
  return board.text.data();
}

// --- N9: what is one endpoint

TEST_P(ListenOn, N9_same_address_however_it_is_written_is_one_endpoint) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, Style::blocking, "tcp://*:0"));
  const auto port = std::to_string(cluster.address().port());
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, board, "tcp://0.0.0.0:0")));
  EXPECT_EQ(cluster->status().endpoints.size(), 1u);
  EXPECT_EQ(cluster.address().to_string(), "tcp://0.0.0.0:" + port);
  EXPECT_EQ(cluster.endpoint().workers.size(), 2u);
  cluster.expect_clean_shutdown();
}

TEST_P(ListenOn, N9_other_address_kind_or_v6only_is_another_endpoint) {
  const Folder folder;
  const auto name = unique_name("lb");
  struct Asked {
    std::string endpoint;
    bool v6only = false;
  };
  const Asked all[] = {{"tcp://127.0.0.1:0"}, {"tcp://127.0.0.2:0"},  {"tcp://[::1]:0"}, {"tcp://[::]:0", false},
                       {"tcp://[::]:0", true}, {"unix:@" + name}, {"unix:" + folder.path(name)}};
  TestCluster cluster(policy());
  size_t count = 0;
  for (const auto& asked : all) {
    ASSERT_TRUE(cluster.start(1, answering(Style::blocking, cluster.board(), asked.endpoint, {.v6only = asked.v6only})));
    EXPECT_EQ(cluster->status().endpoints.size(), ++count) << asked.endpoint;
  }
  cluster.expect_clean_shutdown();
}

TEST_P(ListenOn, N9_second_listen_of_a_worker_on_a_fixed_port_is_eaddrinuse) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    const auto first = worker.listen(listener.address());   // another key, so another socket, for a port that is taken
    if (first.error().code != EADDRINUSE) return board.fail("got: " + first.error().message());
    return answer_all(worker, listener, Style::blocking, board);
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(ListenOn, N9_both_v6onlys_on_one_port_are_eaddrinuse_for_the_second) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking, "tcp://[::]:0"));
  const auto address = cluster.address().to_string();
  const auto said = refusal(cluster, address, {.v6only = true});
  expect_contains(said, address);
  expect_contains(said, std::strerror(EADDRINUSE));
  cluster.expect_clean_shutdown();
}

TEST_P(ListenOn, N9_other_options_for_an_open_endpoint_are_an_error_that_names_the_difference) {
  const Folder folder;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, board, kAnyPort, {.receive_buffer = 8192})));
  expect_contains(refusal(cluster, kAnyPort, {}), "receive_buffer 0 (the endpoint is open with 8192");
  expect_contains(refusal(cluster, kAnyPort, {.receive_buffer = 8192, .device = "lo"}), "device \"lo\"");
  const auto path = "unix:" + folder.path("socket");
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, board, path, {.permissions = 0600})));
  expect_contains(refusal(cluster, path, {.permissions = 0660}), "permissions");
  EXPECT_EQ(refusal(cluster, path, {.permissions = 0600}), "");
  cluster.expect_clean_shutdown();
}

TEST_P(ListenOn, N11_busy_port_is_told_to_every_worker_that_asks_and_all_succeed_once_it_is_free) {
  UniqueFd occupied = make_socket(kAnyPort);
  const Endpoint endpoint = address_of(occupied.get());
  const Gate retry;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
      occupied.reset();  // the copy that this process inherited
      const auto refused = worker.listen(endpoint);
      if (refused.error().message() != "bind " + endpoint.to_string() + ": " + std::strerror(EADDRINUSE)) {
        board.fail("got: " + refused.error().message());
      }
      ++board.flag[0];
      retry.wait();
      auto listener = worker.listen(endpoint);
      if (!listener) return board.fail(listener.error().message());
      return answer_all(worker, *listener, Style::blocking, board);
    }));
  }
  ASSERT_TRUE(cluster.wait_until("all to be told", [&] { return board.flag[0] == 3; }));
  EXPECT_TRUE(cluster->status().endpoints.empty());
  occupied.reset();
  retry.open(3);
  ASSERT_TRUE(cluster.wait_until("all to listen", [&] { return cluster.count(Event::Kind::listening) == 3; }));
  EXPECT_EQ(cluster.endpoint().workers.size(), 3u);
  Crowd crowd;
  crowd.connect(endpoint, 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(ListenOn, N15_dual_stack_shows_ipv4_clients_as_mapped_addresses) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen("tcp://[::]:0").value();
    while (auto connection = listener.accept()) {
      std::snprintf(board.text.data(), board.text.size(), "%s", connection->peer().value().to_string().c_str());
      answer_one(worker, *connection, board);
    }
    return 0;
  }));
  Crowd crowd;
  crowd.connect(Endpoint::parse("tcp://127.0.0.1:" + std::to_string(cluster.address().port())).value(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  EXPECT_EQ(board.text.data(), "tcp://[::ffff:127.0.0.1]:" + std::to_string(crowd[0].address().port()));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

// --- N35: the backlog

void expect_backlogs(TestCluster& cluster, size_t sockets, unsigned backlog) {
  const auto queues = listen_queues(cluster.address().port());
  EXPECT_EQ(queues.size(), sockets);
  for (const auto& queue : queues) EXPECT_EQ(queue.backlog, backlog);
}

size_t listening_sockets(const std::string& policy, size_t slots) {
  return Policy::parse(policy)->backend == Backend::reuseport ? slots : 1;
}

TEST_P(ListenOn, N35_backlog_is_the_limit_of_every_listening_sockets_queue) {
  for (const int backlog : {0, 3, 511}) {
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(2, answering(Style::blocking, cluster.board(), kAnyPort, {.backlog = backlog})));
    expect_backlogs(cluster, listening_sockets(policy(), 2), static_cast<unsigned>(backlog));
    cluster.expect_clean_shutdown();
  }
}

TEST_P(ListenOn, N35_backlog_that_a_later_worker_asks_for_holds_for_the_whole_endpoint) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, answering(Style::blocking, board, kAnyPort, {.backlog = 5})));
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, board, kAnyPort, {.backlog = 7})));
  expect_backlogs(cluster, listening_sockets(policy(), 3), 7);
  EXPECT_EQ(cluster->status().endpoints.size(), 1u);
  cluster.expect_clean_shutdown();
}

TEST_P(ListenOn, N35_exclusive_listeners_have_the_backlog_too) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, cluster.board(), kAnyPort, {.backlog = 6, .exclusive = true})));
  expect_backlogs(cluster, 1, 6);
  cluster.expect_clean_shutdown();
}

TEST_P(ListenOn, N35_tiny_backlog_holds_one_more_than_itself_and_round_robins_queue_comes_before_it) {
  constexpr unsigned backlog = 2;
  TestCluster cluster(policy(), {.queue_max = 4});
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, cluster.board(), kAnyPort, {.backlog = backlog})));
  const auto in_kernel = [&] {
    unsigned longest = 0;
    for (const auto& queue : listen_queues(cluster.address().port())) longest = std::max(longest, queue.queued);
    return longest;
  };
  const bool round_robin = Policy::parse(policy())->backend == Backend::round_robin;
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd)) << "the worker is busy from now on";
  while (in_kernel() < backlog + 1 && crowd.size() < 100) {
    crowd.connect(cluster.address(), 1);
    crowd.step();
    ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
  }
  EXPECT_EQ(in_kernel(), backlog + 1);
  const auto in_primary = round_robin ? cluster.endpoint().queued : 0;
  EXPECT_LE(in_primary, round_robin ? 5u : 0u) << "queue_max, and what one turn brought";
  EXPECT_GE(in_primary, round_robin ? 4u : 0u);
  for (int i = 0; i < 5; ++i) {
    crowd.connect(cluster.address(), 1);
    ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
    EXPECT_EQ(in_kernel(), backlog + 1) << "the kernel's queue is full";
  }
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

TEST_P(ListenOn, N35_unix_sockets_queue_has_the_backlog_and_one_more) {
  constexpr unsigned backlog = 2;
  const auto endpoint = Endpoint::parse("unix:@" + unique_name("lb")).value();
  TestCluster cluster(policy(), {.queue_max = 4});
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, cluster.board(), endpoint.to_string(), {.backlog = backlog})));
  Crowd crowd;
  crowd.connect(endpoint, 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  std::vector<UniqueFd> waiting;
  while (waiting.size() < 100) {
    UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (::connect(client.get(), endpoint.address(), endpoint.length()) != 0) break;
    waiting.push_back(std::move(client));
    ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
  }
  EXPECT_EQ(errno, EAGAIN);
  const auto in_primary = cluster.endpoint().effective.backend == Backend::round_robin ? cluster.endpoint().queued : 0;
  EXPECT_EQ(waiting.size() - in_primary, backlog + 1);
  for (auto& client : waiting) ::shutdown(client.get(), SHUT_RDWR);
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

// --- what is set before bind

TEST_P(ListenOn, options_are_set_on_every_listening_socket) {
  TestCluster cluster(policy());
  const ListenOptions options{.defer_accept_s = 3, .fast_open = 9, .receive_buffer = 20'000, .send_buffer = 30'000, .device = "lo"};
  ASSERT_TRUE(cluster.start(2, answering(Style::blocking, cluster.board(), kAnyPort, options)));
  const auto sockets = listening_at(cluster.address());  // the primary, this process, holds them
  ASSERT_EQ(sockets.size(), listening_sockets(policy(), 2));
  for (const int fd : sockets) {
    EXPECT_EQ(option_of(fd, SOL_SOCKET, SO_RCVBUF), 2 * 20'000);
    EXPECT_EQ(option_of(fd, SOL_SOCKET, SO_SNDBUF), 2 * 30'000);
    EXPECT_EQ(option_of(fd, IPPROTO_TCP, TCP_FASTOPEN), 9);
    EXPECT_GE(option_of(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT), 3);
    char device[IFNAMSIZ] = {};
    socklen_t length = sizeof device;
    EXPECT_EQ(::getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &length), 0);
    EXPECT_STREQ(device, "lo");
  }
  cluster.expect_clean_shutdown();
}

TEST_P(ListenOn, connections_have_the_buffers_that_were_asked_for) {
  for (const bool exclusive : {false, true}) {
    TestCluster cluster(policy());
    auto& board = cluster.board();
    ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
      auto listener = worker.listen(kAnyPort, {.exclusive = exclusive, .receive_buffer = 20'000}).value();
      while (auto connection = listener.accept()) {
        board.flag[0] = static_cast<uint32_t>(option_of(connection->fd(), SOL_SOCKET, SO_RCVBUF));
        answer_one(worker, *connection, board);
      }
      return 0;
    }));
    Crowd crowd;
    crowd.connect(cluster.address(), 1);
    crowd.ask_all();
    EXPECT_TRUE(cluster.wait_finished(crowd));
    EXPECT_EQ(board.flag[0], 2 * 20'000u);
    cluster.expect_clean_shutdown();
  }
}

TEST_P(ListenOn, defer_accept_passes_over_the_client_that_says_nothing) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, cluster.board(), kAnyPort, {.defer_accept_s = 60})));
  Crowd silent;
  silent.connect(cluster.address(), 1);
  Crowd crowd;
  crowd.connect(cluster.address(), 5);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd)) << "the only worker has not accepted the silent client, which came first";
  silent.step();
  EXPECT_EQ(silent[0].state(), Client::State::connected);
  silent.ask_all();
  EXPECT_TRUE(cluster.wait_finished(silent));
  cluster.expect_clean_shutdown();
}

TEST_P(ListenOn, device_that_is_not_there_is_an_error_that_names_it) {
  TestCluster cluster(policy());
  for (const bool exclusive : {false, true}) {
    const auto said = refusal(cluster, kAnyPort, {.exclusive = exclusive, .device = "nosuch0"});
    expect_contains(said, "SO_BINDTODEVICE nosuch0");
    expect_contains(said, std::strerror(ENODEV));
  }
  cluster.expect_clean_shutdown();
}

TEST(ListenOptionsOutOfRange, option_that_cannot_be_meant_is_an_error_that_names_it_and_what_is_allowed) {
  struct Case {
    const char* endpoint;
    ListenOptions options;
    const char* named;
  };
  const Case cases[] = {
      {kAnyPort, {.backlog = -1}, "backlog -1 (allowed: 0 and up)"},
      {kAnyPort, {.permissions = 0600}, "permissions"},
      {"unix:@name", {.permissions = 0600}, "permissions"},
      {"unix:/nowhere/x", {.permissions = 01000}, "permissions"},
      {kAnyPort, {.defer_accept_s = 65536}, "defer_accept_s 65536 (allowed: 0 to 65535)"},
      {kAnyPort, {.fast_open = 65536}, "fast_open"},
      {kAnyPort, {.receive_buffer = 1U << 31}, "receive_buffer"},
      {kAnyPort, {.send_buffer = 1U << 31}, "send_buffer"},
      {"unix:@name", {.defer_accept_s = 1}, "defer_accept_s"},
      {"unix:@name", {.fast_open = 1}, "fast_open"},
      {"unix:@name", {.device = "lo"}, "device"},
      {kAnyPort, {.device = "a/b"}, "device"},
      {kAnyPort, {.device = std::string(16, 'x')}, "at most 15"},
      {kAnyPort, {.device = std::string("l\0o", 3)}, "device"},
  };
  TestCluster cluster("auto");
  for (const auto& wrong : cases) {
    for (const bool exclusive : {false, true}) {
      ListenOptions options = wrong.options;
      options.exclusive = exclusive;
      const auto said = refusal(cluster, wrong.endpoint, options);
      expect_contains(said, wrong.named);
      expect_contains(said, "ListenOptions::");
      expect_contains(said, std::strerror(EINVAL));
    }
  }
  EXPECT_TRUE(cluster->status().endpoints.empty());
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
