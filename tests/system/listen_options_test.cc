// SPDX-License-Identifier: MIT
// What may be set on an endpoint's sockets before they are bound.
#include <net/if.h>
#include <netinet/tcp.h>

#include <cstring>

#include "contract.hh"
#include "refusal.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

class ListenOn : public PolicyTest {};
LB_FOR_EVERY_POLICY(ListenOn);

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
    const auto said = ask_for(cluster, kAnyPort, {.exclusive = exclusive, .device = "nosuch0"}).message;
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
      const auto said = ask_for(cluster, wrong.endpoint, options).message;
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
