// SPDX-License-Identifier: MIT
// accept(2) is refused without end, as by a seccomp filter or a security module, with an errno that is else one connection's own: nothing
// is taken off the queue, so to try again at once would be to try for ever.
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <csignal>

#include "contract.hh"
#include "isolation.hh"

namespace lb::test {
namespace {

constexpr unsigned kFailsafe_s = 60;

class RefusedAccept : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(where_workers_accept, RefusedAccept, testing::Values("shared", "reuseport", "reuseport:hash"),
                         policy_test_name);

TEST_P(RefusedAccept, of_a_worker_leaves_connections_to_others_and_keeps_it_from_nothing_else) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    worker.on_message([&](UserMessage&) { board.flag[0] = 1; }).value();
    if (worker.id() == 1 && !refuse_syscall(SYS_accept4, EPERM)) return board.fail("no seccomp filter");
    return answering(Style::blocking, board)(worker);
  }));
  Crowd crowd;
  for (int i = 0; i < 4; ++i) {
    crowd.connect(cluster.address(), 5);
    crowd.ask_all();
    ASSERT_TRUE(cluster.wait_finished(crowd)) << i;
  }
  EXPECT_EQ(board.accepted[1], 0u);
  ASSERT_TRUE(cluster->send(1, "text"));
  EXPECT_TRUE(cluster.wait_until("worker 1 to hear", [&] { return board.flag[0] == 1; }));
  ASSERT_TRUE(cluster->kill(1, SIGKILL));
  ASSERT_TRUE(cluster.wait_exit(1));
  cluster.expect_clean_shutdown();
}

TEST(RefusedAcceptRoundRobin, of_the_primary_keeps_it_from_nothing_else) {
  in_child([] {
    ::alarm(kFailsafe_s);
    ASSERT_TRUE(refuse_syscall(SYS_io_uring_setup, EPERM));
    TestCluster cluster("round-robin", Options{.drain_deadline = std::chrono::seconds(1)});
    auto& board = cluster.board();
    ASSERT_TRUE(cluster.start(2, Style::blocking));
    ASSERT_TRUE(refuse_syscall(SYS_accept4, EPERM));
    Crowd crowd;
    crowd.connect(cluster.address(), 1);
    EXPECT_TRUE(cluster.wait_until(
        "it to try several times", [&] { return cluster.endpoint().retried >= 3; }, &crowd));
    EXPECT_EQ(cluster.endpoint().lost, 0u);
    crowd.leave_all();
    cluster.expect_clean_shutdown();
    EXPECT_EQ(board.failures, 0u);
  });
}

}  // namespace
}  // namespace lb::test
