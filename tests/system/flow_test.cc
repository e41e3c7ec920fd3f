// SPDX-License-Identifier: MIT
// N39: flows of datagrams under reuseport, and the ladder for udp:// endpoints.
#include <linux/capability.h>

#include <csignal>

#include "contract.hh"
#include "datagram_clients.hh"
#include "isolation.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

class Sticky : public PolicyTest {
 protected:
  void known_flow_stays(const char* endpoint);
  static bool wait_answers(TestCluster& cluster, DatagramClients& clients) {
    return cluster.wait_until("the answers", [&] { return clients.step(), clients.all_answered(); });
  }
  static std::vector<uint32_t> homes(const DatagramClients& clients) {
    std::vector<uint32_t> workers;
    for (size_t i = 0; i < clients.size(); ++i) workers.push_back(clients.worker(i));
    return workers;
  }
};
INSTANTIATE_TEST_SUITE_P(every, Sticky, testing::Values("reuseport", "reuseport:p2c", "reuseport:hash", "reuseport:random"),
                         policy_test_name);

void Sticky::known_flow_stays(const char* endpoint) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(4, replying(Style::watch, cluster.board(), endpoint)));
  DatagramClients clients(cluster.address(), 48);
  clients.ask_all();
  ASSERT_TRUE(wait_answers(cluster, clients));
  const auto before = homes(clients);
  EXPECT_GT(max_over_mean(clients.per_worker(), 1, 4), 0) << "a worker has no flow: " << shares(clients.per_worker());
  for (int round = 0; round < 20; ++round) {
    clients.ask_all();
    ASSERT_TRUE(wait_answers(cluster, clients));
    ASSERT_EQ(homes(clients), before) << "in round " << round;
  }
  cluster.expect_clean_shutdown();
}

TEST_P(Sticky, N39_known_flow_stays_with_its_worker) { known_flow_stays(kAnyUdpPort); }
TEST_P(Sticky, N39_known_flow_over_ipv6_stays_with_its_worker) { known_flow_stays("udp://[::1]:0"); }

TEST_P(Sticky, N39_only_the_flows_of_a_drained_worker_move) {
  if (policy() == "reuseport:hash") GTEST_SKIP() << "the kernel's hash goes on sending to the socket of a worker that left";
  LB_SKIP_WITHOUT_BPF(!has_capability(CAP_BPF), "needs CAP_BPF");
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(3, replying(Style::watch, cluster.board())));
  DatagramClients clients(cluster.address(), 48);
  clients.ask_all();
  ASSERT_TRUE(wait_answers(cluster, clients));
  const auto before = homes(clients);
  ASSERT_TRUE(cluster->drain(2));
  ASSERT_TRUE(cluster.wait_exit(2));
  clients.ask_all();
  ASSERT_TRUE(wait_answers(cluster, clients));
  const auto after = homes(clients);
  for (size_t i = 0; i < clients.size(); ++i) {
    if (before[i] == 2)
      EXPECT_NE(after[i], 2u) << i;
    else
      EXPECT_EQ(after[i], before[i]) << i;
  }
  clients.ask_all();
  ASSERT_TRUE(wait_answers(cluster, clients));
  EXPECT_EQ(homes(clients), after) << "a moved flow stays where it moved to";
  cluster.expect_clean_shutdown();
}

TEST(Flows, N39_new_flow_goes_to_the_least_loaded_worker) {
  LB_SKIP_WITHOUT_BPF(!has_capability(CAP_BPF), "needs CAP_BPF");
  for (const bool charged : {false, true}) {
    TestCluster cluster("reuseport");
    auto& board = cluster.board();
    ASSERT_TRUE(cluster.start(4, [&](Worker& worker) {
      auto socket = worker.bind(kAnyUdpPort).value();
      LoadToken tokens[100];
      if (charged && worker.id() == 3)
        for (auto& token : tokens) token = socket.charge();
      board.flag[worker.id()] = 1;
      return reply_all(worker, socket, Style::watch, board);
    }));
    ASSERT_TRUE(cluster.wait_until("the charge", [&] { return board.flag[3] == 1; }));
    DatagramClients clients(cluster.address(), 48);
    for (size_t i = 0; i < clients.size(); ++i) {
      clients.ask(i);
      ASSERT_TRUE(cluster.wait_until("the answer", [&] { return clients.step(), clients.all_answered(); }));
    }
    const auto flows = clients.per_worker();
    if (charged)
      EXPECT_EQ(flows.size() > 3 ? flows[3] : 0, 0u) << shares(flows);
    else
      EXPECT_LE(max_over_mean(flows, 1, 4), 1.25) << shares(flows);
    uint64_t picks = 0;
    for (const auto& worker : cluster.endpoint().workers) picks += worker.picks;
    EXPECT_EQ(picks, 48u) << "a flow is picked for once";
    cluster.expect_clean_shutdown();
  }
}

TEST(Flows, N39_new_flows_are_shared_out_in_proportion_to_weight) {
  LB_SKIP_WITHOUT_BPF(!has_capability(CAP_BPF), "needs CAP_BPF");
  TestCluster cluster("reuseport");
  ASSERT_TRUE(cluster.start(2, replying(Style::watch, cluster.board())));
  ASSERT_TRUE(cluster->set_weight(2, 9));
  DatagramClients clients(cluster.address(), 40);
  for (size_t i = 0; i < clients.size(); ++i) {
    clients.ask(i);
    ASSERT_TRUE(cluster.wait_until("the answer", [&] { return clients.step(), clients.all_answered(); }));
  }
  const auto flows = clients.per_worker();
  EXPECT_GE(flows.size() > 2 ? flows[2] : 0, 30u) << shares(flows);
  cluster.expect_clean_shutdown();
}

/// Answers a few datagrams under `policy` and gives what the status says.
EndpointStatus reply_and_report(const char* policy) {
  TestCluster cluster(policy);
  if (!cluster.start(3, replying(Style::blocking, cluster.board()))) return {};
  DatagramClients clients(cluster.address(), 16);
  clients.ask_all();
  EXPECT_TRUE(
      cluster.wait_until("the answers", [&] { return clients.step(200), clients.all_answered() && clients.asked() == 200; }));
  EXPECT_EQ(cluster.board().not_once(200), 0u);
  auto endpoint = cluster.endpoint();
  cluster.expect_clean_shutdown();
  return endpoint;
}

std::string strict_error(const char* policy) {
  const ScopedVariable strict("LB_STRICT", "1");
  TestCluster cluster(policy, {.respawn = false});
  if (!cluster.made() || !cluster->spawn(replying(Style::blocking, cluster.board()))) return "";
  cluster.wait_until("the worker to be refused", [&] { return cluster->done() || cluster.count(Event::Kind::listening) == 1; });
  cluster->kill();
  cluster.wait_until("the end", [&] { return cluster->done(); });
  return cluster.board().text.data();
}

TEST(Flows, N39_ladder_all_that_is_permitted) {
  LB_SKIP_WITHOUT_BPF(!has_capability(CAP_BPF) || !has_capability(CAP_PERFMON), "needs CAP_BPF and CAP_PERFMON");
  for (const char* policy : {"auto", "reuseport"}) {
    const auto endpoint = reply_and_report(policy);
    EXPECT_EQ(endpoint.effective.to_string(), "reuseport:least-loaded");
    EXPECT_EQ(endpoint.rung, "eBPF, flows and receive queues");
    EXPECT_EQ(endpoint.reason, "");
    EXPECT_EQ(strict_error(policy), "");
  }
}

TEST(Flows, N39_ladder_cap_bpf_alone) {
  LB_SKIP_WITHOUT_BPF(!has_capability(CAP_BPF), "needs CAP_BPF");
  in_child([] {
    ASSERT_TRUE(keep_capabilities({CAP_BPF}));
    const auto endpoint = reply_and_report("reuseport");
    EXPECT_EQ(endpoint.rung, "eBPF, flows");
    EXPECT_FALSE(endpoint.reason.empty());
    EXPECT_NE(strict_error("reuseport").find("CAP_PERFMON"), std::string::npos);
  });
}

TEST(Flows, N39_ladder_without_privilege_flows_stick_by_the_kernels_hash) {
  in_child([] {
    ASSERT_TRUE(keep_capabilities({}));
    for (const char* policy : {"reuseport", "reuseport:p2c", "reuseport:random"}) {
      const auto endpoint = reply_and_report(policy);
      EXPECT_EQ(endpoint.effective.to_string(), "reuseport:hash");
      EXPECT_EQ(endpoint.rung, "kernel hash");
      EXPECT_FALSE(endpoint.reason.empty());
      EXPECT_NE(strict_error(policy).find("LB_STRICT"), std::string::npos);
    }
  });
}

TEST(Flows, N16_auto_is_shared_where_ebpf_is_not_permitted) {
  in_child([] {
    ASSERT_TRUE(keep_capabilities({}));
    const auto endpoint = reply_and_report("auto");
    EXPECT_EQ(endpoint.requested.backend, Backend::automatic);
    EXPECT_EQ(endpoint.effective.backend, Backend::shared);
    EXPECT_FALSE(endpoint.reason.empty());
  });
}

TEST(Flows, N16_round_robin_is_an_error_under_strict_and_shared_and_hash_are_not) {
  EXPECT_NE(strict_error("round-robin").find("LB_STRICT"), std::string::npos);
  EXPECT_EQ(strict_error("shared"), "");
  EXPECT_EQ(strict_error("reuseport:hash"), "");
}

}  // namespace
}  // namespace lb::test
