// SPDX-License-Identifier: MIT
// Selectors by who the client is and where its packets are handled, and workers pinned to CPUs.
#include <sched.h>

#include <csignal>
#include <map>

#include "contract.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

/// 127.0.1.1, 127.0.1.2, ...
std::string client_address(unsigned number) { return "127.0.1." + std::to_string(number); }

/// The worker that serves each of `count` client addresses, each asked twice.
std::map<std::string, uint32_t> homes(TestCluster& cluster, const Endpoint& to, unsigned count) {
  std::map<std::string, uint32_t> homes;
  for (unsigned number = 1; number <= count; ++number) {
    for (int i = 0; i < 2; ++i) {
      Crowd crowd;
      crowd.connect_from(client_address(number), to);
      crowd.ask_all();
      if (!cluster.wait_finished(crowd)) return {};
      const auto [home, first] = homes.emplace(client_address(number), crowd[0].worker());
      if (!first) {
        EXPECT_EQ(crowd[0].worker(), home->second) << home->first;
      }
    }
  }
  return homes;
}

TEST(Sticky, client_address_stays_with_its_worker_and_only_those_of_a_crashed_one_move_and_come_back) {
  TestCluster cluster("reuseport:sticky");
  ASSERT_TRUE(cluster.start(4, Style::blocking));
  LB_SKIP_WITHOUT_BPF(!cluster.has_program(), "eBPF: " + cluster.endpoint().reason);
  const auto before = homes(cluster, cluster.address(), 24);
  const uint32_t slot = cluster.worker(2).slot;
  ::kill(cluster.worker(2).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_until("the replacement", [&] { return cluster.event(Event::Kind::listening, 5) != nullptr; }));
  ASSERT_EQ(cluster.worker(5).slot, slot);
  const auto after = homes(cluster, cluster.address(), 24);
  unsigned came_back = 0;
  for (const auto& [client, home] : before) {
    EXPECT_EQ(after.at(client), home == 2 ? 5 : home) << client;
    came_back += home == 2 ? 1 : 0;
  }
  EXPECT_GT(came_back, 0u);
  cluster.expect_clean_shutdown();
}

TEST(Sticky, workers_do_not_take_what_waits_for_others) {
  TestCluster cluster("reuseport:sticky");
  ASSERT_TRUE(cluster.start(3, Style::watch));
  LB_SKIP_WITHOUT_BPF(!cluster.has_program(), "eBPF: " + cluster.endpoint().reason);
  Crowd crowd;
  for (int i = 0; i < 100; ++i) {
    for (unsigned number = 1; number <= 6; ++number) crowd.connect_from(client_address(number), cluster.address());
  }
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  for (size_t i = 6; i < crowd.size(); ++i) EXPECT_EQ(crowd[i].worker(), crowd[i % 6].worker()) << "client " << i;
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST(Sticky, ipv4_client_is_the_same_on_a_dual_stack_socket) {
  TestCluster cluster("reuseport:sticky");
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(
      4,
      [&](Worker& worker) {
        auto ipv4 = worker.listen("tcp://127.0.0.1:0").value();
        auto both = worker.listen("tcp://[::]:0").value();
        return answer_both(worker, {std::move(ipv4), std::move(both)}, board);
      },
      2));
  LB_SKIP_WITHOUT_BPF(!cluster.has_program(), "eBPF: " + cluster.endpoint().reason);
  const auto endpoints = cluster->status().endpoints;
  ASSERT_EQ(endpoints.size(), 2u);
  const Endpoint mapped = Endpoint::parse("tcp://127.0.0.1:" + std::to_string(endpoints[1].address.port())).value();
  const auto by_ipv4 = homes(cluster, endpoints[0].address, 16);
  EXPECT_EQ(by_ipv4.size(), 16u);
  EXPECT_EQ(homes(cluster, mapped, 16), by_ipv4);
  cluster.expect_clean_shutdown();
}

TEST(Sticky, ipv6_client_stays_with_its_worker) {
  TestCluster cluster("reuseport:sticky");
  ASSERT_TRUE(cluster.start(4, Style::blocking, "tcp://[::1]:0"));
  LB_SKIP_WITHOUT_BPF(!cluster.has_program(), "eBPF: " + cluster.endpoint().reason);
  Crowd crowd;
  crowd.connect(cluster.address(), 12);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  for (auto& client : crowd) EXPECT_EQ(client.worker(), crowd[0].worker());
  cluster.expect_clean_shutdown();
}

std::vector<unsigned> own_cpus() {
  cpu_set_t set;
  ::sched_getaffinity(0, sizeof set, &set);
  std::vector<unsigned> cpus;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

class Pinned : public testing::TestWithParam<WorkerKind> {};
INSTANTIATE_TEST_SUITE_P(each, Pinned, testing::ValuesIn(kKinds),
                         [](const auto& kind) { return std::string(to_string(kind.param)); });

TEST_P(Pinned, workers_run_on_their_cpus_and_the_status_says_which) {
  const auto cpus = own_cpus();
  TestCluster cluster({"reuseport:cpu", GetParam()}, {.pin_cpus = cpus});
  const auto count = static_cast<unsigned>(cpus.size());
  ASSERT_TRUE(cluster.start(count, Style::watch));
  for (uint32_t id = 1; id <= count; ++id) EXPECT_EQ(cluster.worker(id).cpu, static_cast<int>(cpus[id - 1])) << "worker " << id;
  EXPECT_NE(cluster->status().to_string().find("on CPU " + std::to_string(cpus[0])), std::string::npos);
  if (cluster.has_program()) {
    const auto own = own_cpus();
    for (uint32_t id = 1; id <= count; ++id) {  // on loopback a SYN is handled on the CPU that sends it
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpus[id - 1], &one);
      ::sched_setaffinity(0, sizeof one, &one);
      Crowd crowd;
      crowd.connect(cluster.address(), 1);
      crowd.ask_all();
      EXPECT_TRUE(cluster.wait_finished(crowd));
      EXPECT_GE(cluster.endpoint().workers.at(id - 1).picks, 1u) << "worker " << id;
    }
    cpu_set_t all;
    CPU_ZERO(&all);
    for (const unsigned cpu : own) CPU_SET(cpu, &all);
    ::sched_setaffinity(0, sizeof all, &all);
  }
  cluster.expect_clean_shutdown();
}

TEST(Pinned, replacement_gets_the_cpu_of_the_one_that_crashed) {
  const auto cpus = own_cpus();
  if (cpus.size() < 2) GTEST_SKIP() << "one CPU";
  TestCluster cluster("reuseport:cpu", {.pin_cpus = {cpus[0], cpus[1]}});
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_until("the replacement", [&] { return cluster.event(Event::Kind::listening, 3) != nullptr; }));
  EXPECT_EQ(cluster.worker(3).cpu, static_cast<int>(cpus[0]));
  cluster.expect_clean_shutdown();
}

TEST(Pinned, cpu_that_may_not_be_used_is_an_error_that_names_it) {
  const auto refused = Cluster::create({.pin_cpus = {own_cpus()[0], 8191}});
  EXPECT_EQ(refused.error().code, EINVAL);
  EXPECT_NE(refused.error().message().find("8191"), std::string::npos) << refused.error().message();
}

TEST(Pinned, nobody_is_unless_asked_for) {
  if (own_cpus().size() < 2) GTEST_SKIP() << "one CPU";
  TestCluster cluster("reuseport");
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  EXPECT_EQ(cluster.worker(1).cpu, -1);
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
