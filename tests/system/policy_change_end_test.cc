// SPDX-License-Identifier: MIT
// How a change of policy ends: workers let go of the old way, whatever waits there and whatever they lack.
#include <sys/resource.h>

#include <algorithm>
#include <string>
#include <utility>

#include "contract.hh"
#include "isolation.hh"

namespace lb::test {
namespace {

using Kind = Event::Kind;

enum Place : size_t { kWhat, kSteps };
enum What : uint32_t { kHear, kTake, kServeAll };

/// Hears the primary each time that the gate opens, and does what it is told: nothing more, takes one connection, or serves on.
WorkerFunction stepping(Board& board, const Gate& gate) {
  return [&board, &gate](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    for (gate.wait(); board.flag[kWhat] != kServeAll; gate.wait()) {
      worker.dispatch().value();
      if (board.flag[kWhat] == kTake && !listener.try_accept().value()) return board.fail("nothing waits");
      ++board.flag[kSteps];
    }
    return answer_all(worker, listener, Style::watch, board);
  };
}

class ChangeOfOneQueue : public testing::TestWithParam<std::pair<const char*, const char*>> {};
INSTANTIATE_TEST_SUITE_P(every, ChangeOfOneQueue,
                         testing::Values(std::pair("shared", "reuseport:hash"), std::pair("reuseport:hash", "shared")),
                         [](const auto& pair) { return test_name(std::string(pair.param.first) + "_to_" + pair.param.second); });

/// The one queue is both ways' own. What the worker takes by the old one counts for the new one when it lets go.
TEST_P(ChangeOfOneQueue, N5_worker_lets_go_of_the_old_way_although_its_queue_is_never_empty) {
  constexpr unsigned kTaken = 24;  // more than it may take by the old way at the end
  const Gate gate;
  TestCluster cluster(GetParam().first);
  ASSERT_TRUE(cluster.start(1, stepping(cluster.board(), gate)));
  Crowd crowd;
  crowd.connect(cluster.address(), kTaken + 8);
  ASSERT_TRUE(cluster.wait_until(
      "all to wait", [&] { return crowd.count(Client::State::connecting) == 0; }, &crowd));
  ASSERT_TRUE(cluster->set_policy(Policy::parse(GetParam().second).value()));
  unsigned steps = 0;
  const auto step = [&] {
    if (cluster.board().flag[kSteps] != steps) return false;
    gate.open();
    ++steps;
    return true;
  };
  ASSERT_TRUE(cluster.wait_until("the worker to be told to let go", [&] {
    step();
    return cluster.endpoint().changing.find("to let go") != std::string::npos || cluster.count(Kind::policy_changed) == 1;
  }));
  const auto stepped = [&] { return cluster.board().flag[kSteps] == steps; };
  ASSERT_TRUE(cluster.wait_until("the last step", stepped));
  cluster.board().flag[kWhat] = kTake;
  for (unsigned i = 0; i < kTaken; ++i) {
    ASSERT_TRUE(step());
    ASSERT_TRUE(cluster.wait_until("one to be taken", stepped));
  }
  ASSERT_TRUE(cluster.wait_until("the change to end", [&] { return cluster.count(Kind::policy_changed) == 1; }));
  ASSERT_EQ(cluster.endpoint().workers.size(), 1u);
  EXPECT_EQ(cluster.endpoint().workers[0].accepted, kTaken) << cluster.describe();
  crowd.leave_all();
  cluster.board().flag[kWhat] = kServeAll;
  gate.open();
  cluster.expect_clean_shutdown();
}

class ChangeWithoutOne : public testing::TestWithParam<std::pair<const char*, const char*>> {};
INSTANTIATE_TEST_SUITE_P(every, ChangeWithoutOne,
                         testing::Values(std::pair("shared", "round-robin"), std::pair("round-robin", "shared"),
                                         std::pair("round-robin", "reuseport")),
                         [](const auto& pair) { return test_name(std::string(pair.param.first) + "_to_" + pair.param.second); });

TEST_P(ChangeWithoutOne, N5_worker_that_lacked_descriptors_until_the_change_was_over_takes_part_when_it_has_some) {
  const Gate gate;
  TestCluster cluster(GetParam().first);
  ASSERT_TRUE(cluster.start(1, stepping(cluster.board(), gate)));
  ASSERT_TRUE(cluster.spawn(kAnswering, answering_argument(Style::watch)));
  ASSERT_TRUE(cluster.wait_until("the other", [&] { return cluster.count(Kind::listening) == 2; }));
  const pid_t pid = cluster.worker(1).pid;
  rlimit limit{};
  ASSERT_EQ(::prlimit(pid, RLIMIT_NOFILE, nullptr, &limit), 0);
  limit_descriptors(pid, 3);
  ASSERT_TRUE(cluster->set_policy(Policy::parse(GetParam().second).value()));
  ASSERT_TRUE(cluster.wait_until("the change to end", [&] { return cluster.count(Kind::policy_changed) == 1; }));
  const auto takes_part = [&] {
    const auto workers = cluster.endpoint().workers;
    return std::any_of(workers.begin(), workers.end(), [](const auto& each) { return each.worker == 1; });
  };
  gate.open();
  ASSERT_TRUE(cluster.wait_until("it to say that it cannot", [&] { return cluster.board().flag[kSteps] == 1 && !takes_part(); }));
  limit_descriptors(pid, limit.rlim_cur);
  cluster.board().flag[kWhat] = kServeAll;
  gate.open();
  ASSERT_TRUE(cluster.wait_until("it to take part", takes_part));
  ASSERT_TRUE(cluster->drain(2));
  ASSERT_TRUE(cluster.wait_exit(2));
  Crowd crowd;
  crowd.connect(cluster.address(), 5);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.board().accepted[1], 5u);
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
