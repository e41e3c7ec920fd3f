// SPDX-License-Identifier: MIT
// A worker that hangs under reuseport: out of the pick, its queue is served by others, and it is back when it goes on. On each rung
// that has a program.
#include <linux/capability.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>

#include "contract.hh"
#include "isolation.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

constexpr auto kFailsafe = std::chrono::seconds(60);

/// Clients that stay, until every other worker has more to do than one that hangs: so it is picked, unless it is out of the pick.
class Pressure {
 public:
  explicit Pressure(TestCluster& cluster) : cluster_(cluster) {}

  bool add() {
    crowd.connect(cluster_.address(), 2);
    return cluster_.wait_greeted(crowd);
  }
  bool add_until(const char* what, const std::function<bool()>& so) {
    const auto begin = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begin < kFailsafe) {
      if (so()) return true;
      if (!add()) return false;
      if (crowd.size() < 200) continue;
      crowd.ask_all();
      if (!cluster_.wait_finished(crowd)) return false;
      crowd = Crowd();
    }
    ADD_FAILURE() << "waited in vain for " << what << "\n" << cluster_.describe();
    return false;
  }
  /// Sent to worker 1's slot so far.
  uint64_t picks() const { return load().picks; }
  bool hung() const { return load().hung; }

  Crowd crowd;

 private:
  WorkerLoad load() const {
    const auto workers = cluster_.endpoint().workers;
    const auto found = std::find_if(workers.begin(), workers.end(), [](const WorkerLoad& load) { return load.worker == 1; });
    return found == workers.end() ? WorkerLoad{} : *found;
  }

  TestCluster& cluster_;
};

WorkerLoad of_slot(const EndpointStatus& endpoint, uint32_t slot) {
  const auto found =
      std::find_if(endpoint.workers.begin(), endpoint.workers.end(), [slot](const WorkerLoad& load) { return load.slot == slot; });
  return found == endpoint.workers.end() ? WorkerLoad{} : *found;
}

/// `hang` makes worker 1 hang, `go_on` ends it.
void expect_out_of_the_pick_until_it_goes_on(TestCluster& cluster, const std::function<void()>& hang,
                                             const std::function<void()>& go_on) {
  hang();
  Pressure pressure(cluster);
  ASSERT_TRUE(pressure.add_until("the worker to be out of the pick", [&] { return pressure.hung(); }));
  const auto picks = pressure.picks();
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(pressure.add());
  EXPECT_EQ(pressure.picks() - picks, 0u) << "requests to the hung one after its exclusion";
  go_on();
  EXPECT_TRUE(pressure.add_until("the worker to be back", [&] { return pressure.picks() > picks && !pressure.hung(); }));
  EXPECT_TRUE(pressure.add_until("the worker to serve again", [&] {
    const auto workers = pressure.crowd.per_worker();
    return workers.size() > 1 && workers[1] != 0;
  }));
  pressure.crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(pressure.crowd));
  cluster.expect_clean_shutdown();
}

class Hung : public testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  static std::string policy() { return std::get<0>(GetParam()); }
  /// On the parameter's rung, in a process of its own.
  static void on_rung(const std::function<void()>& body) {
    LB_SKIP_WITHOUT_BPF(!has_capability(CAP_BPF) || !has_capability(CAP_PERFMON), "needs CAP_BPF and CAP_PERFMON");
    in_child([&] {
      if (std::string(std::get<1>(GetParam())) == "in_flight") {
        ASSERT_TRUE(keep_capabilities({CAP_BPF}));
      }
      body();
    });
  }
};
constexpr auto name_of_case = [](const auto& its) {
  return test_name(std::string(std::get<0>(its.param)) + "_" + std::get<1>(its.param));
};
const auto kStealing = testing::Combine(testing::Values("reuseport", "reuseport:p2c", "reuseport:random"),
                                        testing::Values("kernel_backlog", "in_flight"));
INSTANTIATE_TEST_SUITE_P(reuseport, Hung, kStealing, name_of_case);
INSTANTIATE_TEST_SUITE_P(judges, Hung, testing::Values(std::tuple("reuseport:hermes", "kernel_backlog")), name_of_case);

/// Where siblings take what waits for the hung one.
class HungWithoutPrimary : public Hung {};
INSTANTIATE_TEST_SUITE_P(reuseport, HungWithoutPrimary, kStealing, name_of_case);
TEST_P(Hung, stopped_worker_is_out_of_the_pick_until_it_goes_on) {
  on_rung([] {
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(3, Style::watch));
    const auto pid = cluster.worker(1).pid;
    expect_out_of_the_pick_until_it_goes_on(
        cluster, [&] { stop_process(pid); }, [&] { ::kill(pid, SIGCONT); });
  });
}

TEST_P(Hung, worker_in_an_endless_loop_is_out_of_the_pick_until_it_leaves_the_loop) {
  on_rung([] {
    TestCluster cluster(policy());
    auto& board = cluster.board();
    board.flag[0] = 1;
    ASSERT_TRUE(cluster.start(3, [&](Worker& worker) {
      auto listener = worker.listen(kAnyPort).value();
      while (worker.id() == 1 && board.flag[0] != 0) {
      }
      return answer_all(worker, listener, Style::watch, board);
    }));
    expect_out_of_the_pick_until_it_goes_on(
        cluster, [] {}, [&] { board.flag[0] = 0; });
  });
}

TEST_P(HungWithoutPrimary, stopped_worker_costs_no_connection_while_the_primary_is_stopped_too) {
  on_rung([] {
    Shared<Board> board;
    const pid_t primary = ::fork();
    if (primary == 0) ::_exit(lb::run({.workers = 3, .policy = Policy::parse(policy()).value()}, answering(Style::watch, *board)));
    ASSERT_TRUE(
        wait_until("the workers to listen", [&] { return board->port[1] != 0 && board->port[2] != 0 && board->port[3] != 0; }));
    const auto address = Endpoint::parse("tcp://127.0.0.1:" + std::to_string(board->port[1])).value();
    Crowd crowd;
    while (!crowd.of_worker(1) || !crowd.of_worker(2) || !crowd.of_worker(3)) {  // then the primary sends connections to each
      ASSERT_LT(crowd.size(), 200u) << shares(crowd.per_worker());
      crowd.connect(address, 1);
      ASSERT_TRUE(wait_until(
          "the client to be greeted", [&] { return crowd.greeted() == crowd.size(); }, &crowd));
    }
    const pid_t pid = crowd.of_worker(1)->worker_pid();
    stop_process(primary);
    ::kill(pid, SIGSTOP);
    const auto before = board->accepted[1].load();
    const Load load({.to = address, .count = 6000, .at_once = 32});
    EXPECT_TRUE(wait_until("most of the load to be served", [&] { return load.answered() >= 5900; })) << load.describe();
    EXPECT_EQ(board->accepted[1], before);
    ::kill(primary, SIGCONT);
    EXPECT_TRUE(wait_until("the rest to be served", [&] { return load.over(); })) << load.describe();
    EXPECT_EQ(load.answered(), 6000u) << load.describe();
    ::kill(pid, SIGCONT);
    crowd.ask_all();
    EXPECT_TRUE(wait_until(
        "the first clients to be served", [&] { return crowd.all(Client::State::finished); }, &crowd));
    ::kill(primary, SIGTERM);
    int status = 0;
    EXPECT_EQ(::waitpid(primary, &status, 0), primary);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  });
}

TEST_P(HungWithoutPrimary, what_the_program_held_against_a_killed_worker_goes_with_it) {
  on_rung([] {
    TestCluster cluster(policy(), Options{.respawn = false});
    ASSERT_TRUE(cluster.start(3, Style::watch));
    cluster.expect_serves(20);  // by then the primary has sent connections to each
    const auto slot = cluster.worker(1).slot;
    const auto out_of_the_pick = [&] { return of_slot(cluster.endpoint(), slot).hung; };
    stop_process(cluster.worker(1).pid);
    const Load load({.to = cluster.address(), .count = UINT32_MAX});
    ASSERT_TRUE(wait_until("the program to find it out, while the primary does not look", out_of_the_pick));
    load.stop();
    ASSERT_TRUE(cluster.wait_over(load));
    EXPECT_TRUE(out_of_the_pick());
    ASSERT_TRUE(cluster->kill(1, SIGKILL));
    ASSERT_TRUE(cluster.wait_exit(1));
    ASSERT_TRUE(cluster.start(1, Style::watch));
    ASSERT_EQ(cluster.worker(4).slot, slot);
    EXPECT_FALSE(out_of_the_pick()) << "as its predecessor was";
    cluster.expect_clean_shutdown();
  });
}

}  // namespace
}  // namespace lb::test
