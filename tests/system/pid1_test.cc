// SPDX-License-Identifier: MIT
// The primary as PID 1 of a container: it becomes the parent of every orphan there.
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "contract.hh"
#include "isolation.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

/// Runs `body` as PID 1 of a new PID namespace.
void as_pid_1(const std::function<void()>& body) {
  in_child([&] {
    if (::unshare(CLONE_NEWPID) != 0) LB_SKIP_UNPRIVILEGED(std::string("unshare: ") + std::strerror(errno));
    in_child([&] {
      ASSERT_EQ(::getpid(), 1);
      body();
    });
  });
}

/// Leaves a grandchild behind, which exits with 42, and serves.
const Program kLeaveOrphans("leave orphans", [](Worker& worker, Board& board, const std::string&) {
  const pid_t child = ::fork();
  if (child == 0) {
    const pid_t orphan = ::fork();
    if (orphan == 0) ::_exit(42);
    siginfo_t ended{};  // it has ended when it becomes one, and nobody has waited for it
    ::_exit(::waitid(P_PID, static_cast<id_t>(orphan), &ended, WEXITED | WNOWAIT));
  }
  if (::waitpid(child, nullptr, 0) != child) return board.fail("waitpid");
  auto listener = worker.listen(kAnyPort).value();
  return answer_all(worker, listener, Style::watch, board);
});

/// A child that has ended, without reaping it; 0: none yet, -1: there is no child.
pid_t ended_child() {
  siginfo_t info{};
  if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return -1;
  return info.si_pid;
}

class Pid1 : public KindTest {};
INSTANTIATE_TEST_SUITE_P(primary, Pid1,
                         testing::Combine(testing::Values("shared", "reuseport", "round-robin"), testing::ValuesIn(kProcessKinds)),
                         kind_test_name);

TEST_P(Pid1, serves_replaces_and_leaves_orphans_to_whoever_waits_for_them) {
  as_pid_1([&] {
    TestCluster cluster(setting());
    ASSERT_TRUE(cluster.start(2, kLeaveOrphans));
    Crowd crowd;
    crowd.connect(cluster.address(), 10);
    crowd.ask_all();
    EXPECT_TRUE(cluster.wait_finished(crowd));
    ::kill(cluster.worker(1).pid, SIGKILL);
    ASSERT_TRUE(cluster.wait_until("a replacement", [&] { return cluster.event(Event::Kind::listening, 3) != nullptr; }));
    cluster.expect_clean_shutdown();
    for (int orphan = 0; orphan < 3; ++orphan) {
      int status = 0;
      EXPECT_GT(::waitpid(-1, &status, 0), 0) << "an orphan's exit status was taken";
      EXPECT_EQ(WEXITSTATUS(status), 42);
    }
  });
}

TEST_P(Pid1, reaps_orphans_if_asked_to) {
  as_pid_1([&] {
    TestCluster cluster(setting(), {.reap_orphans = true});
    ASSERT_TRUE(cluster.start(2, kLeaveOrphans));
    ::kill(cluster.worker(1).pid, SIGKILL);
    ASSERT_TRUE(cluster.wait_until("a replacement", [&] { return cluster.event(Event::Kind::listening, 3) != nullptr; }));
    EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->signal, SIGKILL) << "a worker's exit status was taken";
    EXPECT_TRUE(cluster.wait_until("no zombie", [] { return ended_child() == 0; }));
    cluster.expect_clean_shutdown();
    EXPECT_EQ(ended_child(), -1);
  });
}

TEST(Pid1Run, sigterm_drains_it_as_any_primary) {
  const Shared<Board> board;
  in_child([&] {
    if (::unshare(CLONE_NEWPID) != 0) LB_SKIP_UNPRIVILEGED(std::string("unshare: ") + std::strerror(errno));
    const pid_t primary = ::fork();
    if (primary == 0) {
      ::_exit(run({.workers = 2, .reap_orphans = true}, kLeaveOrphans.function(*board)));
    }
    EXPECT_TRUE(wait_until("the workers", [&] { return board->port[1] != 0 && board->port[2] != 0; }));
    ::kill(primary, SIGTERM);
    int status = 0;
    ASSERT_EQ(::waitpid(primary, &status, 0), primary);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  });
}

}  // namespace
}  // namespace lb::test
