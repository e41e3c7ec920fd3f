// SPDX-License-Identifier: MIT
// fd:N: sockets that the primary was started with.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "contract.hh"
#include "isolation.hh"
#include "refusal.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

std::string endpoint_of(int fd) { return "fd:" + std::to_string(fd); }

class InheritedEveryWay : public StyleTest {};
LB_FOR_EVERY_POLICY_AND_STYLE(InheritedEveryWay);

TEST_P(InheritedEveryWay, N13_clients_wait_in_the_socket_for_the_next_server_and_none_is_lost) {
  const UniqueFd socket = make_socket(kAnyPort, 512);
  const Endpoint address = address_of(socket.get());
  std::optional<Load> load;
  for (const uint32_t enough : {300U, 600U, 0U}) {
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(3, style(), endpoint_of(socket.get())));
    EXPECT_EQ(cluster.address(), address);
    if (!load) load.emplace(LoadPlan{.to = address, .count = 2000, .at_once = 16});
    ASSERT_TRUE(cluster.wait_until(
        "load", [&] { return enough != 0 ? load->answered() >= enough : load->over(); }, nullptr, &*load));
    cluster.expect_clean_shutdown();
    EXPECT_TRUE(is_listening(socket.get()));
  }
  EXPECT_EQ(load->answered(), 2000u) << load->describe();
}

class Inherited : public PolicyTest {};
LB_FOR_EVERY_POLICY(Inherited);

TEST_P(Inherited, N13_what_waits_when_the_shutdown_begins_is_served) {
  const UniqueFd socket = make_socket(kAnyPort, 512);
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, Style::blocking, endpoint_of(socket.get())));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 1));
  cluster->shutdown();
  ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Inherited, N13_shutdown_ends_although_clients_keep_coming) {
  const UniqueFd socket = make_socket(kAnyPort, 512);
  Crowd crowd;
  const auto keep_coming = [&] {
    for (size_t left = crowd.size() - crowd.count(Client::State::finished); left < 400; ++left) {
      crowd.connect(address_of(socket.get()), 1);
      crowd[crowd.size() - 1].ask();
    }
  };
  for (const Style style : {Style::blocking, Style::watch}) {
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(2, style, endpoint_of(socket.get())));
    cluster->shutdown();
    EXPECT_TRUE(cluster.wait_until(
        "the end",
        [&] {
          keep_coming();
          return cluster->done();
        },
        &crowd));
  }
  TestCluster next(policy());
  ASSERT_TRUE(next.start(2, Style::blocking, endpoint_of(socket.get())));
  EXPECT_TRUE(next.wait_finished(crowd)) << "whoever was not served waits for the next server";
  next.expect_clean_shutdown();
}

TEST_P(Inherited, N13_socket_that_is_only_bound_is_listened_on) {
  const Folder folder;
  for (const auto& bound : {std::string(kAnyPort), std::string("tcp://[::1]:0"), "unix:" + folder.path("socket")}) {
    const UniqueFd socket = make_socket(bound, -1);
    const Endpoint address = address_of(socket.get());
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(3, Style::blocking, endpoint_of(socket.get())));
    EXPECT_EQ(cluster.endpoint().asked.to_string(), endpoint_of(socket.get()));
    EXPECT_EQ(cluster.address(), address) << "the socket's own";
    EXPECT_EQ(cluster->status().endpoints.size(), 1u) << "workers that ask for it share it";
    cluster.expect_serves(20);
    cluster.expect_clean_shutdown();
  }
  struct stat about {};
  EXPECT_EQ(::lstat(folder.path("socket").c_str(), &about), 0) << "the path is not ours to remove";
}

TEST_P(Inherited, N13_endpoint_that_was_closed_can_be_asked_for_again) {
  const UniqueFd socket = make_socket(kAnyPort);
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(
      1,
      [&](Worker& worker) {
        worker.listen(endpoint_of(socket.get())).value().close();
        auto again = worker.listen(endpoint_of(socket.get()));
        if (!again) return board.fail(again.error().message());
        return answer_all(worker, *again, Style::blocking, board);
      },
      2));
  cluster.expect_serves(20);
  cluster.expect_clean_shutdown();
}

TEST_P(Inherited, N13_what_is_no_listening_or_bound_stream_socket_is_an_error_that_says_so) {
  const Folder folder;
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd datagram = make_socket("udp://127.0.0.1:0", -1, SOCK_DGRAM);
  const UniqueFd unbound(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd unbound_local(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd one(pair[0]);
  const UniqueFd other(pair[1]);
  TestCluster cluster(policy());
  const UniqueFd later = make_socket(kAnyPort);
  expect_contains(refusal(cluster, endpoint_of(later.get()), EPERM), "after the cluster");
  expect_contains(refusal(cluster, "fd:999", EBADF), "no such descriptor");
  expect_contains(refusal(cluster, endpoint_of(file.get()), ENOTSOCK), "no socket");
  expect_contains(refusal(cluster, endpoint_of(datagram.get()), EPROTOTYPE), "SOCK_STREAM");
  expect_contains(refusal(cluster, endpoint_of(unbound.get()), EINVAL), "not bound");
  expect_contains(refusal(cluster, endpoint_of(unbound_local.get()), EINVAL), "not bound");
  expect_contains(refusal(cluster, endpoint_of(one.get()), EISCONN), "connection");
  expect_contains(refusal(cluster, "fd:http", ENOENT), "LISTEN_FDS");
  cluster.expect_clean_shutdown();
}

TEST_P(Inherited, N13_sockets_that_the_cluster_made_cannot_be_asked_for_by_number) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  const auto ours = listening_at(cluster.address());
  ASSERT_FALSE(ours.empty());
  for (const int fd : ours) refusal(cluster, endpoint_of(fd), EPERM);
  cluster.expect_clean_shutdown();
}

TEST_P(Inherited, N13_policy_that_cannot_be_is_shared_and_the_status_says_why) {
  const UniqueFd socket = make_socket(kAnyPort);
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking, endpoint_of(socket.get())));
  const auto status = cluster.endpoint();
  const auto asked = Policy::parse(policy()).value();
  EXPECT_EQ(status.requested, asked);
  EXPECT_EQ(status.effective.backend, asked.backend == Backend::reuseport ? Backend::shared : asked.backend);
  if (asked.backend == Backend::reuseport) expect_contains(status.reason, "bound already");
  cluster.expect_clean_shutdown();
}

TEST(InheritedStrict, N13_reuseport_on_an_inherited_socket_is_an_error_but_auto_is_not) {
  const ScopedVariable strict("LB_STRICT", "1");
  const UniqueFd socket = make_socket(kAnyPort);
  {
    TestCluster cluster("reuseport:hash");
    expect_contains(refusal(cluster, endpoint_of(socket.get()), EOPNOTSUPP), "LB_STRICT");
    cluster.expect_clean_shutdown();
  }
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, Style::blocking, endpoint_of(socket.get())));
  EXPECT_EQ(cluster.endpoint().effective.backend, Backend::shared);
  cluster.expect_clean_shutdown();
}

TEST(InheritedOptions, N13_only_the_backlog_may_be_asked_for) {
  const UniqueFd socket = make_socket(kAnyPort);
  TestCluster cluster("shared");
  for (const ListenOptions& options :
       {ListenOptions{.v6only = true}, ListenOptions{.exclusive = true}, ListenOptions{.receive_buffer = 4096}}) {
    refusal(cluster, endpoint_of(socket.get()), EINVAL, options);
  }
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
