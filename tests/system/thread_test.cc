// SPDX-License-Identifier: MIT
// Workers that are threads: what holds for a process and cannot hold for them.
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>

#include "contract.hh"
#include "new_threads.hh"

namespace lb::test {
namespace {

Setting threaded(const std::string& policy) { return {policy.c_str(), WorkerKind::thread}; }

class ThreadWorker : public PolicyTest {};
LB_FOR_EVERY_POLICY(ThreadWorker);

/// A worker with a client that does not ask: it cannot leave.
struct Stuck {
  explicit Stuck(const std::string& policy, Options options) : cluster(threaded(policy), std::move(options)) {}
  bool start() {
    if (!cluster.start(2, Style::blocking)) return false;
    crowd.connect(cluster.address(), 1);
    return cluster.wait_greeted(crowd);
  }
  uint32_t worker() { return crowd[0].worker(); }
  /// The lost thread can end now: waits until it has.
  void let_go() {
    crowd.leave_all();
    EXPECT_TRUE(cluster.wait_until("the lost thread to end", [this] { return begun.running() == 0; }));
  }

  NewThreads begun;
  TestCluster cluster;
  Crowd crowd;
};

TEST_P(ThreadWorker, thread_that_outstays_the_deadline_counts_as_lost_and_the_exit_code_says_so) {
  Stuck stuck(policy(), {.drain_deadline = std::chrono::milliseconds(20)});
  ASSERT_TRUE(stuck.start());
  ASSERT_TRUE(stuck.cluster.shut_down());
  const auto* exit = stuck.cluster.event(Event::Kind::exit, stuck.worker());
  EXPECT_EQ(exit->exit_code, 1);
  EXPECT_EQ(exit->signal, 0);
  EXPECT_FALSE(exit->expected);
  EXPECT_EQ(stuck.cluster->exit_code(), 1);
  stuck.let_go();
}

TEST_P(ThreadWorker, slot_of_a_lost_thread_is_not_given_away_while_it_runs) {
  Stuck stuck(policy(), {});
  ASSERT_TRUE(stuck.start());
  const auto slot = stuck.cluster.worker(stuck.worker()).slot;
  ASSERT_TRUE(stuck.cluster->drain(stuck.worker(), std::chrono::milliseconds(1)));
  ASSERT_TRUE(stuck.cluster.wait_exit(stuck.worker()));
  const auto next = stuck.cluster.spawn(kAnswering, answering_argument(Style::watch));
  ASSERT_TRUE(next);
  EXPECT_NE(stuck.cluster.worker(*next).slot, slot);
  ASSERT_TRUE(stuck.cluster.wait_until("it to listen", [&] { return stuck.cluster.event(Event::Kind::listening, *next); }));
  Crowd more;
  more.connect(stuck.cluster.address(), 10);
  more.ask_all();
  EXPECT_TRUE(stuck.cluster.wait_finished(more)) << "by the others";
  stuck.crowd.leave_all();
  EXPECT_TRUE(stuck.cluster.wait_until("the lost thread to end", [&] { return stuck.begun.running() == 2; }));
  EXPECT_TRUE(stuck.cluster.shut_down());
  EXPECT_EQ(stuck.cluster->exit_code(), 1);
}

TEST_P(ThreadWorker, kill_of_the_cluster_ends_it_at_once_although_a_thread_runs_on) {
  Stuck stuck(policy(), {});
  ASSERT_TRUE(stuck.start());
  stuck.cluster->kill();
  ASSERT_TRUE(stuck.cluster.wait_until("the end", [&] { return stuck.cluster->done(); }));
  EXPECT_EQ(stuck.cluster.count(Event::Kind::exit), 2u);
  EXPECT_EQ(stuck.cluster->exit_code(), 1);
  stuck.let_go();
}

TEST(ThreadWorkerAlone, N28_signals_are_refused_but_sigterm_which_drains) {
  TestCluster cluster(threaded("auto"));
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  for (const int signal : {SIGKILL, SIGSTOP, SIGUSR1, SIGSEGV}) {
    const auto refused = cluster->kill(1, signal);
    EXPECT_EQ(refused.error().code, EOPNOTSUPP) << signal;
    EXPECT_NE(refused.error().message().find("thread"), std::string::npos) << refused.error().message();
  }
  EXPECT_TRUE(cluster->kill(1, 0));
  EXPECT_EQ(cluster.worker(1).state, WorkerState::listening);
  EXPECT_TRUE(cluster->kill(1, SIGTERM));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_TRUE(cluster.event(Event::Kind::exit, 1)->expected);
  cluster.expect_clean_shutdown();
}

TEST(ThreadWorkerAlone, fork_is_refused_while_there_are_threads_and_a_command_is_not) {
  const NewThreads begun;
  TestCluster cluster(threaded("auto"));
  ASSERT_TRUE(cluster.start(2, Style::watch));
  const auto refused = cluster->spawn([](Worker&) { return 0; });
  EXPECT_EQ(refused.error().code, EDEADLK);
  EXPECT_NE(refused.error().message().find("thread"), std::string::npos) << refused.error().message();
  const auto command = cluster->spawn(kAnswering.command(cluster.shared_board(), answering_argument(Style::watch)));
  ASSERT_TRUE(command);
  ASSERT_TRUE(cluster.wait_until("the command", [&] { return cluster.event(Event::Kind::listening, *command); }));
  for (const uint32_t thread : {1, 2}) {
    ASSERT_TRUE(cluster->drain(thread));
    ASSERT_TRUE(cluster.wait_exit(thread));
  }
  ASSERT_TRUE(cluster.wait_until("the threads to be gone", [&] { return begun.running() == 0; }));
  const auto forked = cluster->spawn(answering(Style::watch, cluster.board()));
  ASSERT_TRUE(forked) << forked.error().message();
  ASSERT_TRUE(cluster.wait_until("the fork", [&] { return cluster.event(Event::Kind::listening, *forked); }));
  cluster.expect_clean_shutdown();
}

TEST(ThreadWorkerAlone, all_three_kinds_serve_one_port_under_every_policy) {
  for (const char* policy : kPolicies) {
    TestCluster cluster(policy);
    ASSERT_TRUE(cluster.start(1, Style::watch));  // forked first
    ASSERT_TRUE(cluster->spawn(kAnswering.command(cluster.shared_board(), answering_argument(Style::watch))));
    ASSERT_TRUE(cluster->spawn_thread(answering(Style::watch, cluster.board())));
    ASSERT_TRUE(cluster.wait_until("all three", [&] { return cluster.count(Event::Kind::listening) == 3; })) << policy;
    const Load load({.to = cluster.address(), .count = 600, .at_once = 16});
    ASSERT_TRUE(cluster.wait_over(load));
    EXPECT_EQ(load.answered(), 600u) << policy << load.describe();
    EXPECT_EQ(cluster.board().not_once(600), 0u);
    EXPECT_EQ(cluster->status().endpoints.size(), 1u);
    cluster.expect_clean_shutdown();
  }
}

TEST(ThreadWorkerAlone, asynchronous_signals_are_not_its_to_take) {
  TestCluster cluster(threaded("auto"));
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.spawn([&](Worker&) {
    sigset_t blocked;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD, SIGPIPE}) {
      if (::sigismember(&blocked, signal) == 0) return board.fail("not blocked: signal " + std::to_string(signal));
    }
    if (::sigismember(&blocked, SIGSEGV) != 0) return board.fail("SIGSEGV is blocked");
    int pipe[2];
    if (::pipe(pipe) != 0) return board.fail("pipe");
    ::close(pipe[0]);
    const bool broken = ::write(pipe[1], "x", 1) < 0 && errno == EPIPE;
    ::close(pipe[1]);
    return broken ? 0 : board.fail("no EPIPE");
  }));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(board.failures, 0u) << board.text.data();
  sigset_t blocked;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  EXPECT_EQ(::sigismember(&blocked, SIGTERM), 0) << "in the primary";
}

TEST(ThreadWorkerAlone, thread_that_throws_counts_as_crashed_and_harms_nobody) {
  TestCluster cluster(threaded("auto"), {.respawn = false});
  ASSERT_TRUE(cluster.start(1, Style::watch));
  ASSERT_TRUE(cluster.spawn([](Worker&) -> int { throw std::runtime_error("as a test asks for"); }));
  ASSERT_TRUE(cluster.wait_exit(2));
  EXPECT_FALSE(cluster.event(Event::Kind::exit, 2)->expected);
  EXPECT_NE(cluster.event(Event::Kind::exit, 2)->exit_code, 0);
  Crowd crowd;
  crowd.connect(cluster.address(), 5);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_TRUE(cluster.shut_down());
  EXPECT_EQ(cluster->exit_code(), 1);
}

TEST(ThreadWorkerAlone, run_takes_threads_for_its_workers) {
  Shared<Board> board;
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::_exit(run({.workers = 3, .threads = true}, [&](Worker& worker) {
      auto listener = worker.listen(kAnyPort).value();
      board->flag[worker.id()] = static_cast<uint32_t>(::getpid());
      if (++board->flag[0] == 3) ::kill(::getpid(), SIGTERM);
      return answer_all(worker, listener, Style::blocking, *board);
    }));
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << board->text.data();
  for (const uint32_t id : {1, 2, 3}) EXPECT_EQ(board->flag[id], static_cast<uint32_t>(pid));
}

}  // namespace
}  // namespace lb::test
