// SPDX-License-Identifier: MIT
// round-robin:custom: the program's own rule picks the worker.
#include <algorithm>
#include <cerrno>
#include <stdexcept>

#include "contract.hh"
#include "isolation.hh"

namespace lb::test {
namespace {

constexpr const char* kCustom = "round-robin:custom";

using Candidates = std::span<const Candidate>;

std::optional<uint32_t> first_with_room(Candidates candidates) {
  const auto found = std::find_if(candidates.begin(), candidates.end(), [](const Candidate& each) { return each.has_room; });
  return found == candidates.end() ? std::nullopt : std::optional(found->worker);
}

class Custom : public testing::TestWithParam<Style> {};
INSTANTIATE_TEST_SUITE_P(with, Custom, testing::ValuesIn(kStyles),
                         [](const auto& style) { return std::string(name_of(style.param)); });

TEST_P(Custom, N36_every_connection_goes_where_the_programs_rule_says) {
  // Workers take turns by the client's number, which is what the rule is told of nobody else: its port.
  std::vector<std::pair<in_port_t, uint32_t>> chosen;
  TestCluster cluster(kCustom, {.selector = [&](Candidates candidates, const Incoming& connection) -> std::optional<uint32_t> {
                        const auto peer = connection.peer();
                        const uint32_t worker = peer->port() % 3 + 1;
                        for (const Candidate& each : candidates) {
                          if (each.worker != worker) continue;
                          if (!each.has_room) return std::nullopt;
                          chosen.emplace_back(peer->port(), worker);
                          return worker;
                        }
                        return 0;
                      }});
  ASSERT_TRUE(cluster.start(3, GetParam()));
  EXPECT_EQ(cluster.endpoint().effective.to_string(), kCustom);
  EXPECT_NE(cluster->status().to_string().find(kCustom), std::string::npos);
  Crowd crowd;
  crowd.connect(cluster.address(), 60);
  std::vector<in_port_t> ports;
  for (auto& client : crowd) ports.push_back(client.address().port());
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  for (size_t i = 0; i < crowd.size(); ++i) EXPECT_EQ(crowd[i].worker(), ports[i] % 3 + 1u) << "client " << i;
  EXPECT_GE(chosen.size(), 60u);
  EXPECT_EQ(cluster.endpoint().bad_picks, 0u);
  EXPECT_EQ(cluster.board().not_once(60), 0u);
  cluster.expect_clean_shutdown();
}

TEST(CustomSelector, N36_rule_is_shown_each_workers_load) {
  std::vector<Candidate> seen;
  std::string came_to;
  TestCluster cluster(kCustom, {.selector = [&](Candidates candidates, const Incoming& connection) {
                        seen.assign(candidates.begin(), candidates.end());
                        came_to = connection.endpoint().to_string();
                        const bool at_rest = candidates[0].has_room && candidates[1].has_room;  // else we are asked again
                        return at_rest ? std::optional(1U) : std::nullopt;
                      }});
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(cluster.start(1, Style::watch));  // they are listed in this order
  Crowd crowd;
  for (int i = 0; i < 3; ++i) {
    crowd.connect(cluster.address(), 1);
    ASSERT_TRUE(cluster.wait_greeted(crowd));
    ASSERT_TRUE(cluster.wait_until("worker 1 to settle", [&] {
      return cluster.worker(1).in_flight == crowd.size() && cluster.endpoint().workers.at(0).backlog == 0;
    }));
  }
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].worker, 1u);
  EXPECT_EQ(seen[0].in_flight, 2u);
  EXPECT_EQ(seen[0].accepted, 2u);
  EXPECT_EQ(seen[0].handed, 0u);
  EXPECT_TRUE(seen[0].has_room);
  EXPECT_EQ(seen[1].worker, 2u);
  EXPECT_EQ(seen[1].accepted, 0u);
  EXPECT_TRUE(seen[1].has_room);
  EXPECT_EQ(came_to, cluster.address().to_string());
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST(CustomSelector, N36_connections_that_the_rule_lets_wait_are_asked_about_again) {
  bool open = false;
  uint64_t asked = 0;
  TestCluster cluster(kCustom, {.selector = [&](Candidates candidates, const Incoming&) -> std::optional<uint32_t> {
                        ++asked;
                        return open ? first_with_room(candidates) : std::nullopt;
                      }});
  ASSERT_TRUE(cluster.start(2, Style::watch));
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "all to wait and be asked about again", [&] { return cluster.endpoint().queued == 10 && asked > 30; }, &crowd));
  EXPECT_EQ(crowd.greeted(), 0u);
  open = true;
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST(CustomSelector, N36_connection_that_is_to_wait_does_not_hold_up_those_behind_it) {
  in_port_t waits = 0;
  TestCluster cluster(kCustom, {.selector = [&](Candidates candidates, const Incoming& connection) -> std::optional<uint32_t> {
                        if (connection.peer()->port() == waits) return std::nullopt;
                        return first_with_room(candidates);
                      }});
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  waits = crowd[0].address().port();
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "all others to be served", [&] { return crowd.count(Client::State::finished) == 19; }, &crowd));
  EXPECT_FALSE(crowd[0].greeted());
  EXPECT_EQ(cluster.endpoint().queued, 1u);
  waits = 0;
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST(CustomSelector, N36_answers_that_cannot_be_followed_are_counted_and_the_next_worker_serves) {
  for (const int kind : {0, 1, 2}) {
    SCOPED_TRACE(kind);
    TestCluster cluster(kCustom, {.selector = [&](Candidates, const Incoming&) -> std::optional<uint32_t> {
                          if (kind == 0) throw std::runtime_error("as a test asks for");
                          return kind == 1 ? 0 : 4'000'000'000;
                        }});
    ASSERT_TRUE(cluster.start(3, Style::watch));
    for (int i = 0; i < 9; ++i) {
      Crowd crowd;
      crowd.connect(cluster.address(), 1);
      crowd.ask_all();
      ASSERT_TRUE(cluster.wait_finished(crowd));
    }
    const auto bad = cluster.endpoint().bad_picks;
    EXPECT_GE(bad, 9u) << "one that a worker is slow to take is asked about again";
    EXPECT_NE(cluster->status().to_string().find("bad picks " + std::to_string(bad)), std::string::npos);
    for (const auto& load : cluster.endpoint().workers) EXPECT_GE(load.accepted, 1u) << "worker " << load.worker;
    cluster.expect_clean_shutdown();
  }
}

TEST(CustomSelector, N36_full_worker_that_the_rule_insists_on_is_passed_over) {
  bool insists = false;
  TestCluster cluster(kCustom, {.window = 1, .selector = [&](Candidates candidates, const Incoming&) -> std::optional<uint32_t> {
                                  if (insists || (candidates[0].worker == 1 && candidates[0].has_room)) return 1;
                                  return std::nullopt;
                                }});
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(cluster.start(1, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));  // worker 1 is busy with it
  EXPECT_EQ(crowd[0].worker(), 1u);
  insists = true;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  EXPECT_EQ(crowd[1].worker(), 2u);
  EXPECT_EQ(cluster.endpoint().bad_picks, 1u);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST(CustomSelector, N36_each_of_2000_connections_is_served_once) {
  TestCluster cluster(kCustom, {.selector = [](Candidates candidates, const Incoming&) -> std::optional<uint32_t> {
                        const Candidate* best = nullptr;
                        for (const Candidate& each : candidates) {
                          if (each.has_room && (best == nullptr || each.in_flight < best->in_flight)) best = &each;
                        }
                        return best == nullptr ? std::nullopt : std::optional(best->worker);
                      }});
  ASSERT_TRUE(cluster.start(4, Style::blocking));
  const Load load({.to = cluster.address(), .count = 2000, .at_once = 32});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 2000u) << load.describe() << cluster.describe();
  EXPECT_EQ(cluster.board().not_once(2000), 0u);
  EXPECT_EQ(cluster.endpoint().bad_picks, 0u);
  cluster.expect_clean_shutdown();
}

TEST(CustomSelector, N36_policy_without_a_rule_is_an_error_that_names_what_is_missing) {
  const ScopedVariable variable("LB_SCHED_POLICY", kCustom);
  const auto refused = Cluster::create({});
  EXPECT_EQ(refused.error().code, EINVAL);
  for (const char* part : {"round-robin:custom", "LB_SCHED_POLICY", "Options::selector"}) {
    EXPECT_NE(refused.error().message().find(part), std::string::npos) << refused.error().message();
  }
}

TEST(CustomSelector, N36_rule_is_not_asked_under_another_policy) {
  TestCluster cluster("round-robin", {.selector = [](Candidates, const Incoming&) -> std::optional<uint32_t> {
                        ADD_FAILURE() << "asked";
                        return 1;
                      }});
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 4);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
