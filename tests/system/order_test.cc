// SPDX-License-Identifier: MIT
// Several queues served as one: who waits longest comes first, though the worker that its queue belongs to is busy.
#include <chrono>

#include "contract.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

class Order : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(where, Order, testing::Values("shared", "reuseport", "round-robin"), policy_test_name);

/// Age is what is asked about, so time has to pass: clearly more than the 1 ms that a queue of one's own may be ahead by.
void let_time_pass() {
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(5)) {
  }
}

TEST_P(Order, worker_that_becomes_free_takes_the_connection_that_has_waited_longest) {
  TestCluster cluster(policy(), {.window = 1});  // with more, round-robin hands a busy worker one ahead of time
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  if (policy() == "reuseport") LB_SKIP_WITHOUT_BPF(cluster.endpoint().rung.rfind("eBPF", 0) != 0, cluster.endpoint().reason);
  Crowd busy;
  busy.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(busy));
  busy.connect(cluster.address(), 1);  // the first worker is busy: the least loaded is the other
  ASSERT_TRUE(cluster.wait_greeted(busy));
  ASSERT_NE(busy[0].worker(), busy[1].worker());

  Crowd waiting;
  for (size_t i = 0; i < 6; ++i) {  // three in each queue, if there are two
    waiting.connect(cluster.address(), 1);
    ASSERT_TRUE(cluster.wait_until(
        "the client to be queued", [&] { return waiting[i].state() == Client::State::connected; }, &waiting));
    let_time_pass();
  }
  busy[0].ask();
  for (size_t i = 0; i < 6; ++i) {
    ASSERT_TRUE(cluster.wait_until(
        "a client to be greeted", [&] { return waiting.greeted() == i + 1; }, &waiting))
        << i;
    EXPECT_TRUE(waiting[i].greeted()) << "client " << i << " came before those that were greeted instead";
    EXPECT_EQ(waiting[i].worker(), busy[0].worker()) << "the other is still busy";
    waiting[i].ask();
  }
  ASSERT_TRUE(cluster.wait_finished(waiting));
  busy.leave_all();
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
