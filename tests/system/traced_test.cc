// SPDX-License-Identifier: MIT
// A debugger holds a process of ours, and keeps to itself that it has ended: the primary does not wait for it.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "contract.hh"
#include "isolation.hh"

namespace lb::test {
namespace {

using Kind = Event::Kind;

/// Traces a process and never asks what becomes of it (ptrace(2): the tracer is told first).
class Debugger {
 public:
  explicit Debugger(pid_t of) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int error = ::ptrace(PTRACE_SEIZE, of, nullptr, nullptr) == 0 ? 0 : errno;
      (void)!::write(ends[1], &error, sizeof error);
      while (true) ::pause();
    }
    EXPECT_EQ(::read(ends[0], &error_, sizeof error_), static_cast<ssize_t>(sizeof error_));
    for (const int end : ends) ::close(end);
  }
  Debugger(const Debugger&) = delete;
  Debugger& operator=(const Debugger&) = delete;
  ~Debugger() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  int error() const noexcept { return error_; }

 private:
  pid_t pid_ = -1;
  int error_ = 0;
};

TEST(Traced, worker_that_was_killed_is_replaced_although_nobody_tells_how_it_ended) {
  in_child([] {
    ::alarm(120);  // a failsafe: a primary that waits does so for ever
    TestCluster cluster("auto");
    ASSERT_TRUE(cluster.start(2, Style::watch));
    const pid_t pid = cluster.worker(1).pid;
    {
      const Debugger debugger(pid);
      if (debugger.error() == EPERM) GTEST_SKIP() << "no right to trace";
      ASSERT_EQ(debugger.error(), 0);
      ASSERT_EQ(::kill(pid, SIGKILL), 0);
      Crowd crowd;
      crowd.connect(cluster.address(), 3);
      crowd.ask_all();
      EXPECT_TRUE(cluster.wait_finished(crowd));
      ASSERT_TRUE(cluster.wait_until("a replacement", [&] { return cluster.event(Kind::listening, 3) != nullptr; }));
      EXPECT_FALSE(cluster.event(Kind::exit, 1)->expected);
    }
    EXPECT_TRUE(cluster.wait_until("the kernel to forget it", [&] { return ::kill(pid, 0) != 0 && errno == ESRCH; }));
    cluster.expect_clean_shutdown();
  });
}

TEST(Traced, new_primary_that_is_no_good_is_killed_and_the_old_one_goes_on) {
  in_child([] {
    ::alarm(120);
    TestCluster cluster("auto", {.upgrade_deadline = std::chrono::milliseconds(200)});
    ASSERT_TRUE(cluster.start(1, Style::watch));
    Command next;
    next.path = "/bin/sleep";
    next.args = {"1000"};
    ASSERT_TRUE(cluster->upgrade(next));
    const pid_t pid = cluster->status().upgrade.pid;
    {
      const Debugger debugger(pid);
      if (debugger.error() == EPERM) GTEST_SKIP() << "no right to trace";
      ASSERT_EQ(debugger.error(), 0);
      ASSERT_TRUE(cluster.wait_until("the end of it", [&] { return cluster.count(Kind::upgrade_failed) == 1; }));
      Crowd crowd;
      crowd.connect(cluster.address(), 3);
      crowd.ask_all();
      EXPECT_TRUE(cluster.wait_finished(crowd));
    }
    EXPECT_TRUE(cluster.wait_until("the kernel to forget it", [&] { return ::kill(pid, 0) != 0 && errno == ESRCH; }));
    cluster.expect_clean_shutdown();
  });
}

}  // namespace
}  // namespace lb::test
