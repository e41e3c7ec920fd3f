// SPDX-License-Identifier: MIT
// Least privilege: workers need none, and the primary can do without once it has started.
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstring>

#include "contract.hh"
#include "isolation.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

bool holds_any_capability() {
  for (int capability = 0; capability <= CAP_LAST_CAP; ++capability)
    if (has_capability(capability)) return true;
  return false;
}

int serve_bare(Worker& worker, Board& board, const std::string& argument) {
  if (holds_any_capability()) return board.fail("the worker holds a capability");
  if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return board.fail("an exec could give it some");
  auto listener = worker.listen(argument);
  return listener ? answer_all(worker, *listener, Style::watch, board) : board.fail(listener.error().message());
}
const Program kBare("least privilege", serve_bare);

/// Right after a fork, before the library or anybody else does anything in the child: bpf(2) kills, and no capability is left.
bool bar_children = false;
void in_forked_child() {
  if (!bar_children) return;
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{4, code};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0 ||
      !keep_capabilities({}))
    ::_exit(99);
}

class LeastPrivilege : public KindTest {};
LB_FOR_EVERY_POLICY_AND_PROCESS_KIND(LeastPrivilege);

bool serves(TestCluster& cluster, uint32_t count) {
  const Load load({.to = cluster.address(), .count = count, .at_once = 8});
  if (!cluster.wait_over(load)) return false;
  EXPECT_EQ(load.answered(), count) << load.describe();
  return load.answered() == count;
}

/// Kills worker 1, and waits for the replacement, the `id`th worker.
bool replaced(TestCluster& cluster, uint32_t id) {
  ::kill(cluster.worker(1).pid, SIGKILL);
  return cluster.wait_until("the replacement", [&] { return cluster.event(Event::Kind::listening, id) != nullptr; });
}

TEST_P(LeastPrivilege, workers_hold_no_capability_and_make_no_bpf_call) {
  in_child([&] {
    ASSERT_EQ(::pthread_atfork(nullptr, nullptr, in_forked_child), 0);
    TestCluster cluster(setting());
    bar_children = true;
    ASSERT_TRUE(cluster.start(3, kBare, kAnyPort));
    ASSERT_TRUE(replaced(cluster, 4));
    bar_children = false;
    ASSERT_TRUE(serves(cluster, 300));
    cluster.expect_clean_shutdown();
  });
}

TEST(LeastPrivilegeRung, cap_bpf_alone_serves_on_the_second_rung_and_replaces_a_worker) {
  LB_SKIP_WITHOUT_BPF(!has_capability(CAP_BPF), "needs CAP_BPF");
  in_child([] {
    ASSERT_TRUE(keep_capabilities({CAP_BPF}));
    TestCluster cluster("reuseport");
    ASSERT_TRUE(cluster.start(3, Style::watch));
    EXPECT_EQ(cluster.endpoint().rung, "eBPF, in flight");
    ASSERT_TRUE(serves(cluster, 300));
    ASSERT_TRUE(replaced(cluster, 4));
    ASSERT_TRUE(serves(cluster, 300));
    cluster.expect_clean_shutdown();
  });
}

class WorkersDrop : public testing::TestWithParam<WorkerKind> {};
INSTANTIATE_TEST_SUITE_P(of, WorkersDrop, testing::ValuesIn(kKinds),
                         [](const auto& kind) { return std::string(to_string(kind.param)); });

TEST_P(WorkersDrop, workers_drop_theirs_and_the_primary_keeps_its_own) {
  if (!has_capability(CAP_SETPCAP)) LB_SKIP_UNPRIVILEGED("needs a capability to drop");
  TestCluster cluster({"reuseport", GetParam()}, {.privileges = Options::Privileges::workers_drop});
  ASSERT_TRUE(cluster.start(2, kBare, kAnyPort));
  ASSERT_TRUE(serves(cluster, 100));
  EXPECT_TRUE(has_capability(CAP_SETPCAP));
  cluster.expect_clean_shutdown();
}

/// A network of its own, where port 80 is free and needs CAP_NET_BIND_SERVICE.
bool enter_own_network() {
  if (::unshare(CLONE_NEWNET) != 0) return false;
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  return ::ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0;
}

class AllDrop : public KindTest {};
LB_FOR_EVERY_POLICY_AND_PROCESS_KIND(AllDrop);

TEST_P(AllDrop, primary_without_capabilities_replaces_and_adds_workers_on_a_privileged_port) {
  if (!has_capability(CAP_SYS_ADMIN)) LB_SKIP_UNPRIVILEGED("needs a network of its own");
  in_child([&] {
    ASSERT_TRUE(enter_own_network());
    const std::string port = "tcp://127.0.0.1:80";
    TestCluster cluster(setting(), {.workers = 2, .workers_max = 6, .privileges = Options::Privileges::all_drop});
    ASSERT_TRUE(cluster.start(2, kBare, port));
    ASSERT_TRUE(cluster.wait_until("the primary to drop", [] { return !holds_any_capability(); }));
    const auto before = cluster.endpoint();
    ASSERT_TRUE(replaced(cluster, 3));
    ASSERT_TRUE(cluster.start(4, kBare, port));
    ASSERT_TRUE(serves(cluster, 600));
    EXPECT_EQ(cluster.endpoint().rung, before.rung);
    EXPECT_EQ(cluster.endpoint().reason, before.reason);
    cluster.expect_clean_shutdown();
  });
}

TEST(AllDropCommand, command_of_another_user_is_refused_since_no_replacement_could_become_it) {
  TestCluster cluster("shared", {.privileges = Options::Privileges::all_drop});
  Command command;
  command.uid = 65534;
  const auto spawned = cluster->spawn(command);
  ASSERT_FALSE(spawned);
  EXPECT_EQ(spawned.error().code, EINVAL);
  EXPECT_NE(std::string(spawned.error().op).find("uid"), std::string::npos);
}

}  // namespace
}  // namespace lb::test
