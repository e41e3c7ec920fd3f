// SPDX-License-Identifier: MIT
// The primary serves too, in its own thread, beside its workers.
#include <fcntl.h>
#include <poll.h>

#include <cerrno>
#include <csignal>

#include "contract.hh"

namespace lb::test {
namespace {

class PrimaryAccepts : public KindTest {};
INSTANTIATE_TEST_SUITE_P(every, PrimaryAccepts,
                         testing::Combine(testing::ValuesIn(kPolicies), testing::Values(WorkerKind::command)), kind_test_name);

/// Answers all that waits for the primary; its clients ask by themselves.
unsigned answer_waiting(Worker& worker, Listener& listener, Board& board) {
  unsigned answered = 0;
  EXPECT_TRUE(worker.dispatch());
  while (auto connection = listener.try_accept().value()) {
    ::fcntl(connection->fd(), F_SETFL, 0);
    answer_one(worker, *connection, board);
    ++answered;
  }
  return answered;
}

TEST_P(PrimaryAccepts, N38_primary_and_worker_share_a_port) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));  // the worker is busy from now on: who else serves, is the primary
  auto seat = cluster->join();
  ASSERT_TRUE(seat) << seat.error().message();
  EXPECT_EQ(seat->id(), 2u);
  std::optional<Worker> worker(*std::move(seat));
  {
    auto listener = worker->listen(kAnyPort);
    ASSERT_TRUE(listener) << listener.error().message();
    EXPECT_EQ(listener->address(), cluster.address());
    ASSERT_TRUE(cluster.wait_until("the primary to listen", [&] { return cluster.event(Event::Kind::listening, 2); }));
    EXPECT_EQ(cluster.worker(2).kind, WorkerKind::primary);
    EXPECT_FALSE(listener->accept());
    EXPECT_EQ(listener->error().code, EDEADLK);
    const Load load({.to = cluster.address(), .count = 60, .at_once = 4});
    unsigned answered = 0;
    ASSERT_TRUE(cluster.wait_until(
        "the load to end",
        [&] {
          answered += answer_waiting(*worker, *listener, cluster.board());
          return load.over();
        },
        nullptr, &load));
    EXPECT_EQ(load.answered(), 60u) << load.describe() << cluster.describe();
    EXPECT_EQ(answered, 60u);
    EXPECT_EQ(load.per_worker()[2], 60u);
    ASSERT_TRUE(cluster->drain(2));
    ASSERT_TRUE(cluster.wait_until("the word to drain", [&] {
      answer_waiting(*worker, *listener, cluster.board());
      return listener->drained();
    }));
    EXPECT_TRUE(worker->draining());
  }
  worker.reset();
  ASSERT_TRUE(cluster.wait_exit(2));
  EXPECT_TRUE(cluster.event(Event::Kind::exit, 2)->expected);
  crowd.connect(cluster.address(), 5);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd)) << "by the worker";
  cluster.expect_clean_shutdown();
}

TEST(PrimaryAcceptsAlone, N38_primary_may_leave_by_itself_and_is_not_replaced) {
  TestCluster cluster("auto");
  { ASSERT_TRUE(cluster->join()); }
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_TRUE(cluster.event(Event::Kind::exit, 1)->expected);
  EXPECT_TRUE(cluster->done());
  EXPECT_EQ(cluster->exit_code(), 0);
}

TEST(PrimaryAcceptsAlone, N38_worker_forked_meanwhile_keeps_no_client_of_the_primary_from_its_end) {
  for (const char* policy : kPolicies) {
    TestCluster cluster(policy);
    auto worker = cluster->join();
    ASSERT_TRUE(worker);
    auto listener = worker->listen(kAnyPort);
    ASSERT_TRUE(listener) << listener.error().message();
    Crowd crowd;
    std::optional<Connection> held;
    crowd.connect(listener->address(), 1);
    ASSERT_TRUE(cluster.wait_until(
        "a client", [&] { return held || (held = listener->try_accept().value()); }, &crowd));
    const auto id = cluster->spawn([&](Worker& forked) {
      while (!forked.draining()) {
        pollfd ready{.fd = forked.fd(), .events = POLLIN, .revents = 0};
        ::poll(&ready, 1, -1);
        if (!forked.dispatch()) return 4;
      }
      return 0;
    });
    ASSERT_TRUE(id);
    held.reset();
    EXPECT_TRUE(cluster.wait_until(
        "the client to see its end", [&] { return crowd.all(Client::State::lost); }, &crowd))
        << policy;
    ASSERT_TRUE(cluster->drain(*id));
    ASSERT_TRUE(cluster.wait_exit(*id));
  }
}

TEST(PrimaryAcceptsAlone, N38_cluster_may_end_before_its_worker_of_the_same_thread) {
  std::optional<Worker> worker;
  {
    TestCluster cluster("auto");
    auto joined = cluster->join();
    ASSERT_TRUE(joined);
    worker.emplace(*std::move(joined));
  }
  EXPECT_EQ(worker->listen(kAnyPort).error().code, EPIPE);
  EXPECT_TRUE(worker->draining());
}

}  // namespace
}  // namespace lb::test
