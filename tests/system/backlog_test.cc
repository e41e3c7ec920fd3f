// SPDX-License-Identifier: MIT
// How many connections wait, and where (N35).
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "contract.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

class Backlog : public PolicyTest {};
LB_FOR_EVERY_POLICY(Backlog);

void expect_backlogs(TestCluster& cluster, size_t sockets, unsigned backlog) {
  const auto queues = listen_queues(cluster.address().port());
  EXPECT_EQ(queues.size(), sockets);
  for (const auto& queue : queues) EXPECT_EQ(queue.backlog, backlog);
}

TEST_P(Backlog, N35_backlog_is_the_limit_of_every_listening_sockets_queue) {
  for (const int backlog : {0, 3, 511}) {
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(2, answering(Style::blocking, cluster.board(), kAnyPort, {.backlog = backlog})));
    expect_backlogs(cluster, listening_sockets(policy(), 2), static_cast<unsigned>(backlog));
    cluster.expect_clean_shutdown();
  }
}

TEST_P(Backlog, N35_backlog_that_a_later_worker_asks_for_holds_for_the_whole_endpoint) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, answering(Style::blocking, board, kAnyPort, {.backlog = 5})));
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, board, kAnyPort, {.backlog = 7})));
  expect_backlogs(cluster, listening_sockets(policy(), 3), 7);
  EXPECT_EQ(cluster->status().endpoints.size(), 1u);
  cluster.expect_clean_shutdown();
}

TEST_P(Backlog, N35_exclusive_listeners_have_the_backlog_too) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, cluster.board(), kAnyPort, {.backlog = 6, .exclusive = true})));
  expect_backlogs(cluster, 1, 6);
  cluster.expect_clean_shutdown();
}

TEST_P(Backlog, N35_tiny_backlog_holds_one_more_than_itself_and_round_robins_queue_comes_before_it) {
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

TEST_P(Backlog, N35_unix_sockets_queue_has_the_backlog_and_one_more) {
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
  size_t in_primary = 0;  // and on the way to the worker
  if (cluster.endpoint().effective.backend == Backend::round_robin)
    in_primary = cluster.endpoint().queued + cluster.endpoint().workers.at(0).backlog;
  EXPECT_EQ(waiting.size() - in_primary, backlog + 1);
  for (auto& client : waiting) ::shutdown(client.get(), SHUT_RDWR);
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
