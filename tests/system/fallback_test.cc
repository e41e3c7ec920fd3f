// SPDX-License-Identifier: MIT
// The ladder: what is not permitted is replaced by the next best and reported, or is an error where LB_STRICT asks for
// it.
#include <linux/capability.h>
#include <sys/syscall.h>

#include <cerrno>

#include "contract.hh"
#include "isolation.hh"
#include "privileges.hh"
#include "refusal.hh"

namespace lb::test {
namespace {

/// Serves 200 connections under `policy` and gives what the status says of the endpoint.
EndpointStatus serve_and_report(const std::string& policy) {
  TestCluster cluster(policy);
  if (!cluster.start(3, Style::blocking)) return {};
  const Load load({.to = cluster.address(), .count = 200, .at_once = 8});
  EXPECT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 200u) << load.describe();
  EXPECT_EQ(cluster.board().not_once(200), 0u);
  auto endpoint = cluster.endpoint();
  EXPECT_NE(cluster->status().to_string().find(endpoint.rung), std::string::npos) << cluster.describe();
  EXPECT_NE(cluster->status().to_string().find(endpoint.reason), std::string::npos) << cluster.describe();
  cluster.expect_clean_shutdown();
  return endpoint;
}

/// The error that LB_STRICT makes of a fallback: from create, or from the worker's listen.
std::string strict_error(const std::string& policy) {
  const ScopedVariable strict("LB_STRICT", "1");
  Shared<Board> board;
  auto cluster = Cluster::create({.policy = Policy::parse(policy).value(), .respawn = false});
  if (!cluster) return cluster.error().message();
  const auto spawned = cluster->spawn([&](Worker& worker) {
    const auto listener = worker.listen(kAnyPort);
    return listener ? 0 : board->fail(listener.error().message());
  });
  if (!spawned) return spawned.error().message();
  while (!cluster->done()) EXPECT_TRUE(cluster->poll(std::chrono::milliseconds(-1)));
  return board->text.data();
}

bool is_unprivileged_rung(const std::string& rung) { return rung == "classic BPF" || rung == "kernel hash"; }

class Unprivileged : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(reuseport, Unprivileged,
                         testing::Values("reuseport", "reuseport:p2c", "reuseport:random", "reuseport:sticky", "reuseport:cpu",
                                         "reuseport:hermes"),
                         policy_test_name);

TEST_P(Unprivileged, reuseport_serves_without_any_capability_and_says_how_and_why) {
  in_child([&] {
    ASSERT_TRUE(keep_capabilities({}));
    const auto endpoint = serve_and_report(policy());
    EXPECT_TRUE(is_unprivileged_rung(endpoint.rung)) << endpoint.rung;
    EXPECT_FALSE(endpoint.reason.empty());
    EXPECT_EQ(endpoint.requested.backend, Backend::reuseport);
    EXPECT_EQ(endpoint.effective.backend, Backend::reuseport);
  });
}

TEST_P(Unprivileged, strict_makes_it_an_error_that_names_what_is_missing) {
  in_child([&] {
    ASSERT_TRUE(keep_capabilities({}));
    expect_contains(strict_error(policy()), kBuiltWithBpf ? "CAP_BPF" : "built without");
  });
}

TEST(Fallback, every_policy_serves_without_any_capability) {
  in_child([] {
    ASSERT_TRUE(keep_capabilities({}));
    for (const char* policy : kPolicies) {
      SCOPED_TRACE(policy);
      const auto endpoint = serve_and_report(policy);
      EXPECT_EQ(endpoint.requested.to_string(), Policy::parse(policy)->to_string());
    }
  });
}

TEST(Fallback, hermes_without_ebpf_is_the_kernels_hash) {
  in_child([] {
    ASSERT_TRUE(keep_capabilities({}));
    const auto endpoint = serve_and_report("reuseport:hermes");
    EXPECT_EQ(endpoint.rung, "kernel hash");
    EXPECT_EQ(endpoint.effective.to_string(), "reuseport:hash");
    EXPECT_FALSE(endpoint.stealing);
  });
}

TEST(Fallback, auto_is_round_robin_where_ebpf_is_not_permitted) {
  in_child([] {
    ASSERT_TRUE(keep_capabilities({}));
    const auto endpoint = serve_and_report("auto");
    EXPECT_EQ(endpoint.requested.backend, Backend::automatic);
    EXPECT_EQ(endpoint.effective.backend, Backend::round_robin);
    EXPECT_FALSE(endpoint.reason.empty());
  });
}

TEST(Fallback, auto_is_reuseport_where_ebpf_is_permitted) {
  LB_SKIP_WITHOUT_BPF(!has_capability(CAP_BPF) || !has_capability(CAP_PERFMON), "needs CAP_BPF and CAP_PERFMON");
  const auto endpoint = serve_and_report("auto");
  EXPECT_EQ(endpoint.requested.backend, Backend::automatic);
  EXPECT_EQ(endpoint.effective.backend, Backend::reuseport);
}

TEST(Fallback, reuseport_is_on_the_top_rung_where_all_is_permitted) {
  LB_SKIP_WITHOUT_BPF(!has_capability(CAP_BPF) || !has_capability(CAP_PERFMON), "needs CAP_BPF and CAP_PERFMON");
  const ScopedVariable strict("LB_STRICT", "1");
  const auto endpoint = serve_and_report("reuseport");
  EXPECT_EQ(endpoint.rung, "eBPF, kernel backlog");
  EXPECT_EQ(endpoint.reason, "");
}

TEST(Fallback, reuseport_with_cap_bpf_alone_is_on_the_second_rung) {
  LB_SKIP_WITHOUT_BPF(!has_capability(CAP_BPF), "needs CAP_BPF");
  in_child([] {
    ASSERT_TRUE(keep_capabilities({CAP_BPF}));
    const auto endpoint = serve_and_report("reuseport");
    EXPECT_EQ(endpoint.rung, "eBPF, in flight");
    EXPECT_FALSE(endpoint.reason.empty());
    expect_contains(strict_error("reuseport"), "CAP_PERFMON");
  });
}

TEST(Fallback, hash_and_shared_need_no_privilege_so_strict_accepts_them) {
  in_child([] {
    ASSERT_TRUE(keep_capabilities({}));
    const ScopedVariable strict("LB_STRICT", "1");
    for (const char* policy : {"shared", "reuseport:hash", "round-robin"}) {
      if (policy == std::string("round-robin") && !kBuiltWithUring) continue;
      SCOPED_TRACE(policy);
      EXPECT_EQ(serve_and_report(policy).reason, "");
    }
  });
}

class RefusedSystemCall : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(with, RefusedSystemCall, testing::Values(EPERM, EACCES, ENOSYS, ENOMEM),
                         [](const auto& error) { return std::string(::strerrorname_np(error.param)); });

TEST_P(RefusedSystemCall, without_io_uring_round_robin_uses_epoll_and_says_why) {
  in_child([] {
    ASSERT_TRUE(refuse_syscall(SYS_io_uring_setup, GetParam()));
    const auto endpoint = serve_and_report("round-robin");
    EXPECT_EQ(endpoint.effective.backend, Backend::round_robin);
    EXPECT_EQ(endpoint.rung, "epoll");
    EXPECT_FALSE(endpoint.reason.empty());
    expect_contains(strict_error("round-robin"), "io_uring");
  });
}

TEST_P(RefusedSystemCall, without_bpf_reuseport_serves_and_says_why) {
  in_child([] {
    ASSERT_TRUE(refuse_syscall(SYS_bpf, GetParam()));
    const auto endpoint = serve_and_report("reuseport");
    EXPECT_TRUE(is_unprivileged_rung(endpoint.rung)) << endpoint.rung;
    EXPECT_FALSE(endpoint.reason.empty());
    EXPECT_NE(strict_error("reuseport"), "");
  });
}

TEST(Fallback, what_was_not_built_in_is_named_with_and_without_strict) {
  if (kBuiltWithBpf && kBuiltWithUring) GTEST_SKIP() << "built with eBPF and io_uring";
  for (const auto& [policy, built_in] : {std::pair{"reuseport", kBuiltWithBpf}, {"round-robin", kBuiltWithUring}}) {
    if (built_in) continue;
    SCOPED_TRACE(policy);
    expect_contains(serve_and_report(policy).reason, "built without");
    expect_contains(strict_error(policy), "built without");
  }
}

TEST(Fallback, round_robin_uses_io_uring_where_it_may) {
  if (!kBuiltWithUring) GTEST_SKIP() << "built without io_uring";
  in_child([] {
    const auto endpoint = serve_and_report("round-robin");
    if (endpoint.rung == "epoll") LB_SKIP_UNPRIVILEGED("io_uring is not permitted here: " + endpoint.reason);
    EXPECT_EQ(endpoint.rung, "io_uring");
    EXPECT_EQ(endpoint.reason, "");
  });
}

}  // namespace
}  // namespace lb::test
