// SPDX-License-Identifier: MIT
// Idle workers that take what waits at busy ones: what it costs when there is nothing to take, and that it can be turned off.
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>

#include "contract.hh"
#include "privileges.hh"

namespace {
std::atomic<uint32_t>* accept_calls = nullptr;  // of this process and those that it forks; null: nobody counts
}

/// In place of the C library's: what the library under test asks the kernel.
extern "C" int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  if (accept_calls != nullptr) ++*accept_calls;
  return static_cast<int>(::syscall(SYS_accept4, fd, address, length, flags));
}

namespace lb::test {
namespace {

struct Counted {
  Counted() { accept_calls = &*calls; }
  ~Counted() { accept_calls = nullptr; }
  Shared<std::atomic<uint32_t>> calls;
};

class StealingEveryWay : public testing::TestWithParam<Style> {};
INSTANTIATE_TEST_SUITE_P(reuseport, StealingEveryWay, testing::ValuesIn(kStyles),
                         [](const auto& style) { return std::string(name_of(style.param)); });

/// One worker wakes for a connection, takes it, and finds its own queue empty: two calls. Another that woke, or looked at a
/// sibling in vain, would make it three.
TEST_P(StealingEveryWay, nothing_is_asked_for_where_nothing_waits_and_one_worker_wakes_for_one_connection) {
  const Counted counted;
  TestCluster cluster("reuseport");
  ASSERT_TRUE(cluster.start(8, GetParam()));
  LB_SKIP_WITHOUT_BPF(cluster.endpoint().rung.rfind("eBPF", 0) != 0, "eBPF: " + cluster.endpoint().reason);
  EXPECT_TRUE(cluster.endpoint().stealing);
  Crowd busy;  // so that there are siblings worth a look
  busy.connect(cluster.address(), GetParam() == Style::blocking ? 4 : 16);
  ASSERT_TRUE(cluster.wait_greeted(busy));
  const uint32_t before = *counted.calls;
  const Load load({.to = cluster.address(), .count = 400, .at_once = 1});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 400u) << load.describe();
  EXPECT_LE(*counted.calls - before, 2 * 400u + 40u);
  busy.ask_all();
  EXPECT_TRUE(cluster.wait_finished(busy));
  cluster.expect_clean_shutdown();
}

class Stealing : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(where, Stealing, testing::Values("reuseport", "reuseport:random"), policy_test_name);

TEST_P(Stealing, turned_off_each_worker_serves_what_its_own_slot_was_given) {
  TestCluster cluster(policy(), {.stealing = false});
  ASSERT_TRUE(cluster.start(4, Style::blocking));
  LB_SKIP_WITHOUT_BPF(cluster.endpoint().rung.rfind("eBPF", 0) != 0, "eBPF: " + cluster.endpoint().reason);
  EXPECT_FALSE(cluster.endpoint().stealing);
  EXPECT_NE(cluster->status().to_string().find("each worker serves its own queue"), std::string::npos);
  const Load load({.to = cluster.address(), .count = 2000, .at_once = 32});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 2000u) << load.describe();
  for (const auto& worker : cluster.endpoint().workers) EXPECT_LE(worker.accepted, worker.picks) << cluster.describe();
  cluster.expect_clean_shutdown();
}

TEST_P(Stealing, turned_off_the_queue_of_a_stopped_worker_is_served_all_the_same) {
  TestCluster cluster(policy(), {.stealing = false});
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 2));
  const auto pid = crowd.of_worker(1)->worker_pid();
  stop_process(pid);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_until(
      "all but the stopped worker's client to be served", [&] { return crowd.count(Client::State::finished) == crowd.size() - 1; },
      &crowd));
  ::kill(pid, SIGCONT);
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.board().not_once(crowd.size()), 0u);
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
