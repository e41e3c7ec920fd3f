// SPDX-License-Identifier: MIT
// The policy changes while the cluster runs: same port, same workers, nothing lost.
#include <linux/capability.h>

#include <chrono>
#include <csignal>

#include "contract.hh"
#include "isolation.hh"
#include "privileges.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

using Kind = Event::Kind;

constexpr const char* kChanging[] = {"shared", "reuseport", "reuseport:hash", "round-robin"};

struct Pair {
  std::string from;
  std::string to;
  Style style;  // each of them by turns
};

void PrintTo(const Pair& pair, std::ostream* out) { *out << pair.from << " to " << pair.to << ", " << name_of(pair.style); }

std::vector<Pair> every_pair() {
  std::vector<Pair> pairs;
  for (const char* from : kChanging)
    for (const char* to : kChanging)
      if (std::string(from) != to) pairs.push_back({from, to, kStyles[pairs.size() % std::size(kStyles)]});
  return pairs;
}

class Change : public testing::TestWithParam<Pair> {
 protected:
  static std::string from() { return GetParam().from; }
  static Policy to() { return Policy::parse(GetParam().to).value(); }
  static Style style() { return GetParam().style; }
};
INSTANTIATE_TEST_SUITE_P(every, Change, testing::ValuesIn(every_pair()), [](const auto& pair) {
  return test_name(pair.param.from + "_to_" + pair.param.to + "_" + name_of(pair.param.style));
});

/// What takes a second or so each: each policy once on either side.
class RudeChange : public Change {};
INSTANTIATE_TEST_SUITE_P(some, RudeChange,
                         testing::Values(Pair{"shared", "reuseport", Style::watch},
                                         Pair{"reuseport", "round-robin", Style::blocking},
                                         Pair{"round-robin", "reuseport:hash", Style::pollable},
                                         Pair{"reuseport:hash", "shared", Style::blocking}),
                         [](const auto& pair) { return test_name(pair.param.from + "_to_" + pair.param.to); });

bool wait_changed(TestCluster& cluster, unsigned changes = 1, Crowd* crowd = nullptr) {
  return cluster.wait_until(
      "the change of policy", [&] { return cluster.count(Kind::policy_changed) >= changes; }, crowd);
}

void expect_in_force(const TestCluster& cluster, const Policy& policy) {
  const auto endpoint = cluster.endpoint();
  if (kBuiltWithBpf || policy.backend != Backend::reuseport) {  // else another selector, and why
    EXPECT_EQ(endpoint.effective.to_string(), policy.to_string()) << cluster.describe();
  } else {
    EXPECT_EQ(endpoint.effective.backend, policy.backend) << cluster.describe();
  }
  EXPECT_EQ(endpoint.requested.to_string(), policy.to_string()) << cluster.describe();
  EXPECT_EQ(endpoint.changing, "");
}

/// Is answered by each of the workers 1 to `count`, all of them at first.
void expect_all_serve(TestCluster& cluster, unsigned count) {
  Crowd crowd;
  crowd.connect(cluster.address(), size_t{10} * count);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.count(Kind::spawned), count) << "a worker did not live on";
}

TEST_P(Change, N5_under_load_loses_nothing_and_the_workers_live_on) {
  TestCluster cluster(from());
  ASSERT_TRUE(cluster.start(3, style()));
  const auto at = cluster.address();
  const Load load({.to = at, .count = Board::kNumbers, .at_once = 16});
  ASSERT_TRUE(cluster.wait_until("load", [&] { return load.answered() >= 200; }));
  ASSERT_TRUE(cluster->set_policy(to()));
  ASSERT_TRUE(wait_changed(cluster));
  const uint32_t answered = load.answered();
  EXPECT_TRUE(cluster.wait_until("load", [&] { return load.over() || load.answered() >= answered + 200; }));
  load.stop();
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.lost() + load.refused(), 0u) << load.describe();
  EXPECT_EQ(cluster.board().not_once(load.started()), 0u);
  expect_in_force(cluster, to());
  EXPECT_EQ(cluster.address(), at);
  EXPECT_EQ(cluster.endpoint().rung == "kernel hash", GetParam().to == "reuseport:hash");
  expect_all_serve(cluster, 3);
  uint64_t accepted = 0;
  for (const auto& worker : cluster.endpoint().workers) accepted += worker.accepted;
  EXPECT_EQ(accepted, load.started() + 30) << "counts go on: " << cluster.describe();
  cluster.expect_clean_shutdown();
}

TEST_P(Change, N5_connections_in_hand_stay_where_they_are_and_those_that_wait_are_served) {
  TestCluster cluster(from());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 2));  // both workers are busy and hear of nothing; 22 wait
  std::vector<uint32_t> in_hand(crowd.size());
  for (size_t i = 0; i < crowd.size(); ++i) in_hand[i] = crowd[i].greeted() ? crowd[i].worker() : 0;
  ASSERT_TRUE(cluster->set_policy(to()));
  EXPECT_NE(cluster.endpoint().changing, "");
  const auto late = crowd.size();
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  ASSERT_TRUE(wait_changed(cluster));
  for (size_t i = 0; i < late; ++i) {
    if (in_hand[i] != 0) {
      EXPECT_EQ(crowd[i].worker(), in_hand[i]);
    }
  }
  expect_in_force(cluster, to());
  cluster.expect_clean_shutdown();
}

TEST_P(RudeChange, N5_worker_that_is_stopped_meanwhile_takes_part_when_it_goes_on) {
  TestCluster cluster(from());
  ASSERT_TRUE(cluster.start(2, style()));
  stop_process(cluster.worker(1).pid);
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  ASSERT_TRUE(cluster->set_policy(to()));
  ASSERT_TRUE(wait_changed(cluster, 1, &crowd));
  ASSERT_TRUE(cluster.wait_finished(crowd));
  ASSERT_EQ(::kill(cluster.worker(1).pid, SIGCONT), 0);
  const unsigned before = cluster.board().accepted[1];
  const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 16});
  EXPECT_TRUE(cluster.wait_until("it to serve", [&] { return cluster.board().accepted[1] > before; }));
  load.stop();
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.lost() + load.refused(), 0u) << load.describe();
  cluster.expect_clean_shutdown();
}

/// It was in the middle of its work, so that it looks for connections before it hears of anything.
TEST(PolicyChange, N5_worker_whose_socket_was_shut_down_while_it_was_stopped_lives_on) {
  for (const Style style : kStyles) {
    SCOPED_TRACE(name_of(style));
    TestCluster cluster("reuseport");
    ASSERT_TRUE(cluster.start(2, style));
    const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 16});
    ASSERT_TRUE(cluster.wait_until("load", [&] { return cluster.board().accepted[2] >= 100; }));
    stop_process(cluster.worker(2).pid);
    ASSERT_TRUE(cluster->set_policy(Policy::parse("shared").value()));
    ASSERT_TRUE(wait_changed(cluster));
    ASSERT_EQ(::kill(cluster.worker(2).pid, SIGCONT), 0);
    const unsigned before = cluster.board().accepted[2];
    EXPECT_TRUE(cluster.wait_until("it to serve", [&] { return cluster.board().accepted[2] > before + 10; }));
    load.stop();
    ASSERT_TRUE(cluster.wait_over(load));
    EXPECT_EQ(load.lost() + load.refused(), 0u) << load.describe();
    EXPECT_EQ(cluster.count(Kind::exit), 0u) << cluster.describe();
    cluster.expect_clean_shutdown();
  }
}

/// Worker 1 holds the change up until worker 3 is there, which is stopped as the others let go of the old way.
TEST(PolicyChange, N5_newcomer_during_a_change_within_a_reuseport_group_loses_nothing_at_its_end) {
  TestCluster cluster("reuseport");
  ASSERT_TRUE(cluster.start(2, Style::watch));
  stop_process(cluster.worker(1).pid);
  ASSERT_TRUE(cluster->set_policy(Policy::parse("reuseport:hash").value()));
  ASSERT_TRUE(cluster.start(1, Style::watch));
  stop_process(cluster.worker(3).pid);
  ASSERT_EQ(::kill(cluster.worker(1).pid, SIGCONT), 0);
  ASSERT_TRUE(cluster.wait_until("the others to let go", [&] {
    const std::string changing = cluster.endpoint().changing;
    return changing.empty() || changing.find(": 1 workers to let go") != std::string::npos;
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 200);
  crowd.ask_all();
  ASSERT_EQ(::kill(cluster.worker(3).pid, SIGCONT), 0);
  ASSERT_TRUE(wait_changed(cluster, 1, &crowd));
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_TRUE(crowd.all(Client::State::finished)) << crowd.describe();
  cluster.expect_clean_shutdown();
}

TEST_P(RudeChange, N5_worker_killed_meanwhile_and_its_replacement_lose_nothing_that_was_not_accepted) {
  TestCluster cluster(from());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 2));
  size_t in_hand = 0;
  for (size_t i = 0; i < crowd.size(); ++i) in_hand += crowd[i].greeted() && crowd[i].worker() <= 2 ? 1 : 0;
  ASSERT_TRUE(cluster->set_policy(to()));
  for (const uint32_t id : {1, 2}) ASSERT_EQ(::kill(cluster.worker(id).pid, SIGKILL), 0);
  ASSERT_TRUE(cluster.wait_exit(1) && cluster.wait_exit(2));
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "all others to be served", [&] { return crowd.count(Client::State::finished) == crowd.size() - in_hand; }, &crowd));
  ASSERT_TRUE(wait_changed(cluster));
  expect_in_force(cluster, to());
  EXPECT_TRUE(cluster.shut_down());
}

/// Each then counts what it took before as taken by the new way, of which no program has picked any.
TEST(PolicyChange, N5_workers_that_let_go_of_the_old_way_one_after_the_other_are_no_sign_that_the_program_is_gone) {
  LB_SKIP_WITHOUT_BPF(!has_capability(CAP_BPF), "needs CAP_BPF");
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 2);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  crowd.of_worker(1)->ask();
  ASSERT_TRUE(cluster.wait_until(
      "worker 1 to be done", [&] { return crowd.count(Client::State::finished) == 1; }, &crowd));
  ASSERT_TRUE(cluster->set_policy(Policy::parse("reuseport").value()));
  ASSERT_TRUE(wait_changed(cluster));  // without worker 2, which is busy
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  ASSERT_TRUE(cluster.wait_until("worker 2 to let go of it too", [&] {
    const auto workers = cluster.endpoint().workers;
    return workers.size() == 2 && workers[0].accepted == 1 && workers[1].accepted == 1;
  }));
  const auto looked = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  ASSERT_TRUE(cluster.wait_until("the primary to look at the counts", [&] { return std::chrono::steady_clock::now() > looked; }));
  EXPECT_EQ(cluster.endpoint().reattached, 0u);
  EXPECT_EQ(cluster.count(Kind::program_restored), 0u);
  cluster.expect_clean_shutdown();
}

TEST(PolicyChange, N5_goes_round_through_every_policy_under_load) {
  for (const Style style : kStyles) {
    SCOPED_TRACE(name_of(style));
    TestCluster cluster("shared");
    ASSERT_TRUE(cluster.start(2, style));
    const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 8});
    unsigned changes = 0;
    for (const char* policy : {"reuseport", "shared", "reuseport:hash", "reuseport", "round-robin", "reuseport:hash", "shared"}) {
      ASSERT_TRUE(cluster->set_policy(Policy::parse(policy).value()));
      ASSERT_TRUE(wait_changed(cluster, ++changes));
      expect_in_force(cluster, Policy::parse(policy).value());
    }
    load.stop();
    ASSERT_TRUE(cluster.wait_over(load));
    EXPECT_EQ(load.lost() + load.refused(), 0u) << load.describe();
    EXPECT_EQ(cluster.board().not_once(load.started()), 0u);
    expect_all_serve(cluster, 2);
    cluster.expect_clean_shutdown();
  }
}

TEST(PolicyChange, N5_changes_that_are_asked_for_at_once_end_with_the_last) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(2, Style::watch));
  for (const char* policy : {"reuseport", "shared", "round-robin"}) ASSERT_TRUE(cluster->set_policy(Policy::parse(policy).value()));
  ASSERT_TRUE(wait_changed(cluster, 2));
  expect_in_force(cluster, Policy::parse("round-robin").value());
  expect_all_serve(cluster, 2);
  cluster.expect_clean_shutdown();
}

TEST(PolicyChange, N5_selector_alone_changes_at_once) {
  const std::vector<const char*> kTours[] = {{"reuseport:least-loaded", "reuseport:p2c", "reuseport:sticky", "reuseport:hermes",
                                              "reuseport:cpu", "reuseport:least-loaded"},
                                             {"round-robin:cyclic", "round-robin:least-loaded", "round-robin:cyclic"}};
  for (const auto& tour : kTours) {
    TestCluster cluster(tour.front());
    ASSERT_TRUE(cluster.start(2, Style::watch));
    if (cluster.endpoint().effective.to_string() != tour.front()) continue;  // no program: what it falls to is Fallback's to test
    for (const char* to : tour) {
      SCOPED_TRACE(to);
      ASSERT_TRUE(cluster->set_policy(Policy::parse(to).value()));
      EXPECT_EQ(cluster.endpoint().changing, "");
      EXPECT_EQ(cluster.endpoint().effective.to_string(), to) << cluster.describe();
      expect_all_serve(cluster, 2);
    }
    cluster.expect_clean_shutdown();
  }
}

TEST(PolicyChange, N5_without_any_capability_from_and_to_reuseport) {
  in_child([] {
    ASSERT_TRUE(keep_capabilities({}));
    TestCluster cluster("reuseport");
    ASSERT_TRUE(cluster.start(3, Style::blocking));
    const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 8});
    unsigned changes = 0;
    for (const char* policy : {"shared", "reuseport", "round-robin", "reuseport:hash", "reuseport", "shared"}) {
      ASSERT_TRUE(cluster->set_policy(Policy::parse(policy).value()));
      ASSERT_TRUE(wait_changed(cluster, ++changes));
    }
    load.stop();
    ASSERT_TRUE(cluster.wait_over(load));
    EXPECT_EQ(load.lost() + load.refused(), 0u) << load.describe();
    expect_all_serve(cluster, 3);
    cluster.expect_clean_shutdown();
  });
}

TEST(PolicyChange, N5_unix_sockets_change_between_shared_and_round_robin_and_are_shared_under_reuseport) {
  const Folder folder;
  const std::string path = folder.path("socket");
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(2, Style::blocking, "unix:" + path));
  const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 8});
  ASSERT_TRUE(cluster->set_policy(Policy::parse("round-robin").value()));
  ASSERT_TRUE(wait_changed(cluster, 1));
  EXPECT_EQ(cluster.endpoint().effective.backend, Backend::round_robin);
  ASSERT_TRUE(cluster->set_policy(Policy::parse("reuseport").value()));
  ASSERT_TRUE(wait_changed(cluster, 2));
  EXPECT_EQ(cluster.endpoint().effective.backend, Backend::shared);
  EXPECT_NE(cluster.endpoint().reason, "");
  load.stop();
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.lost() + load.refused(), 0u) << load.describe();
  EXPECT_EQ(::access(path.c_str(), F_OK), 0) << "the path went with the old backend";
  cluster.expect_clean_shutdown();
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST(PolicyChange, N5_one_endpoint_alone) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(
      2,
      [](Worker& worker) {
        auto first = worker.listen(kAnyPort).value();
        auto second = worker.listen(kAnyPort).value();
        while (auto connection = first.accept()) {
        }
        return 0;
      },
      2));
  const auto second = cluster->status().endpoints.at(1).address.to_string();
  ASSERT_TRUE(cluster->set_policy(second, Policy::parse("round-robin").value()));
  ASSERT_TRUE(wait_changed(cluster));
  EXPECT_EQ(cluster->status().endpoints.at(0).effective.backend, Backend::shared);
  EXPECT_EQ(cluster->status().endpoints.at(1).effective.backend, Backend::round_robin);
  EXPECT_EQ(cluster->set_policy("tcp://127.0.0.1:1", Policy::parse("shared").value()).error().code, ENOENT);
  cluster.expect_clean_shutdown();
}

TEST(PolicyChange, N5_what_cannot_be_had_is_an_error_and_the_old_stays) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  EXPECT_EQ(cluster->set_policy(Policy::parse("round-robin:custom").value()).error().code, EINVAL);
  expect_in_force(cluster, Policy::parse("shared").value());
  expect_all_serve(cluster, 2);
  cluster.expect_clean_shutdown();
}

TEST(PolicyChange, N5_strict_refuses_a_fallback_and_the_old_stays) {
  const ScopedVariable strict("LB_STRICT", "1");
  const Folder folder;
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(2, Style::blocking, "unix:" + folder.path("socket")));
  const auto refused = cluster->set_policy(Policy::parse("reuseport").value());
  EXPECT_EQ(refused.error().code, EOPNOTSUPP) << refused.error().message();
  expect_in_force(cluster, Policy::parse("shared").value());
  expect_all_serve(cluster, 2);
  cluster.expect_clean_shutdown();
}

TEST(PolicyChange, N5_rolling_restart_with_another_lb_sched_policy_changes_it) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(2, Style::watch));
  const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 8});
  EXPECT_EQ(cluster->roll({.env = {"LB_SCHED_POLICY=fastest"}}).error().code, EINVAL);
  ASSERT_TRUE(cluster->roll({.env = {"LB_SCHED_POLICY=round-robin"}}));
  ASSERT_TRUE(wait_changed(cluster));
  ASSERT_TRUE(cluster.wait_until("the roll", [&] { return cluster.count(Kind::roll_done) == 1; }));
  load.stop();
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.lost() + load.refused(), 0u) << load.describe();
  expect_in_force(cluster, Policy::parse("round-robin").value());
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
