// SPDX-License-Identifier: MIT
// How a change of policy ends: workers let go of the old way, whatever waits there and whatever they lack.
#include <string>
#include <utility>

#include "contract.hh"

namespace lb::test {
namespace {

using Kind = Event::Kind;

enum Flag : size_t { kWhat, kSteps };
enum What : uint32_t { kHear, kTake, kServe };

/// Hears the primary each time that the gate opens, and does what it is told: nothing more, takes one connection, or serves on.
WorkerFunction stepping(Board& board, const Gate& gate) {
  return [&board, &gate](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    for (gate.wait(); board.flag[kWhat] != kServe; gate.wait()) {
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
  cluster.board().flag[kWhat] = kServe;
  gate.open();
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
