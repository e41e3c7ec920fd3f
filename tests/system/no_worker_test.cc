// SPDX-License-Identifier: MIT
// An endpoint without workers: clients wait, or are refused, and the port stays ours.
#include <sys/socket.h>

#include <cerrno>
#include <csignal>

#include "contract.hh"

namespace lb::test {
namespace {

using Without = Options::WithoutWorkers;

class NoWorker : public PolicyTest {};
LB_FOR_EVERY_POLICY(NoWorker);

/// One worker, which then dies, and is not replaced.
bool lose_the_only_worker(TestCluster& cluster) {
  if (!cluster.start(1, Style::blocking)) return false;
  ::kill(cluster.worker(1).pid, SIGKILL);
  return cluster.wait_exit(1);
}

/// Worker 2 serves as many clients as there are.
void spawn_and_serve(TestCluster& cluster, const Endpoint& at, Crowd& crowd) {
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  EXPECT_EQ(cluster.address(), at);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(crowd.per_worker().back(), crowd.size()) << "by worker 2";
}

TEST_P(NoWorker, N33_connections_wait_for_the_next_worker_by_default) {
  TestCluster cluster(policy(), {.respawn = false});
  ASSERT_TRUE(lose_the_only_worker(cluster));
  const auto at = cluster.address();
  Crowd crowd;
  crowd.connect(at, 5);
  ASSERT_TRUE(cluster.wait_until(
      "them to be connected", [&] { return crowd.count(Client::State::connected) == 5; }, &crowd));
  spawn_and_serve(cluster, at, crowd);
  EXPECT_TRUE(cluster.shut_down());
}

TEST_P(NoWorker, N33_connections_wait_when_the_last_worker_was_drained) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  const auto at = cluster.address();
  ASSERT_TRUE(cluster->drain(1));
  ASSERT_TRUE(cluster.wait_exit(1));
  Crowd crowd;
  crowd.connect(at, 5);
  ASSERT_TRUE(cluster.wait_until(
      "them to be connected", [&] { return crowd.count(Client::State::connected) == 5; }, &crowd));
  spawn_and_serve(cluster, at, crowd);
  cluster.expect_clean_shutdown();
}

/// Nobody else gets the port, even if it would share it.
void expect_taken(const Endpoint& at) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(::bind(fd.get(), at.address(), at.length()), 0);
  EXPECT_EQ(errno, EADDRINUSE);
}

TEST_P(NoWorker, N33_clients_are_refused_if_so_asked_and_the_port_is_kept_for_the_next_worker) {
  TestCluster cluster(policy(), {.respawn = false, .without_workers = Without::refuse});
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  const auto at = cluster.address();
  Crowd queued;
  ASSERT_TRUE(cluster.occupy(queued, 1));
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.address(), at) << "the status still tells the endpoint";
  EXPECT_TRUE(cluster.wait_until(
      "those queued to be told", [&] { return queued.all(Client::State::lost); }, &queued));
  Crowd refused;
  refused.connect(at, 5);
  EXPECT_TRUE(cluster.wait_until(
      "ECONNREFUSED", [&] { return refused.all(Client::State::refused); }, &refused));
  expect_taken(at);
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  crowd.connect(at, 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.endpoint().effective.backend, Policy::parse(policy())->backend);
  EXPECT_TRUE(cluster.shut_down());
}

TEST_P(NoWorker, N33_crashed_worker_is_replaced_on_the_same_port_where_clients_are_refused_meanwhile) {
  TestCluster cluster(policy(), {.without_workers = Without::refuse});
  ASSERT_TRUE(cluster.start(1, Style::watch));
  const auto at = cluster.address();
  for (uint32_t id = 1; id <= 2; ++id) {
    ::kill(cluster.worker(id).pid, SIGKILL);
    ASSERT_TRUE(cluster.wait_until("a replacement", [&] { return cluster.event(Event::Kind::listening, id + 1) != nullptr; }));
    Crowd crowd;
    crowd.connect(at, 5);
    crowd.ask_all();
    EXPECT_TRUE(cluster.wait_finished(crowd));
  }
  cluster.expect_clean_shutdown();
}

TEST(NoWorkerAlone, N33_busy_port_is_the_workers_error_also_where_clients_may_be_refused) {
  TestCluster first("shared");
  ASSERT_TRUE(first.start(1, Style::blocking));
  const auto at = first.address();
  TestCluster second("shared", {.respawn = false, .without_workers = Without::refuse});
  auto& board = second.board();
  ASSERT_TRUE(second->spawn([&](Worker& worker) {
    board.flag[0] = static_cast<uint32_t>(worker.listen(at).error().code);
    return 0;
  }));
  ASSERT_TRUE(second.wait_exit(1));
  EXPECT_EQ(board.flag[0], unsigned{EADDRINUSE});
  first.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
