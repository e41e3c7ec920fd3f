// SPDX-License-Identifier: MIT
// What a forked worker is, and when forking is refused.
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "contract.hh"
#include "isolation.hh"

namespace lb::test {
namespace {

TEST(Spawn, is_refused_in_a_process_with_threads_and_works_once_they_are_gone) {
  TestCluster cluster("auto");
  const Gate end_one;
  const Gate end_another;
  std::thread one([&] { end_one.wait(); });
  std::thread another([&] { end_another.wait(); });  // a thread sanitizer may have the library forgive one
  const auto refused = cluster->spawn([](Worker&) { return 0; });
  EXPECT_EQ(refused.error().code, EDEADLK);
  EXPECT_NE(refused.error().message().find("thread"), std::string::npos) << refused.error().message();
  end_one.open();
  end_another.open();
  one.join();
  another.join();
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  cluster.expect_clean_shutdown();
}

/// What the child does, in a process that the program forks beside its workers; its exit status.
int in_own_child(const std::function<int()>& act) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(act());
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

class OwnChild : public testing::TestWithParam<const char*> {};
LB_FOR_EVERY_POLICY(OwnChild);

TEST_P(OwnChild, ends_no_worker_of_its_parents_when_it_destroys_the_cluster) {
  TestCluster cluster(GetParam());
  ASSERT_TRUE(cluster.start(2, Style::watch));
  EXPECT_EQ(in_own_child([&] {
              { const Cluster gone = std::move(*cluster.operator->()); }
              return 0;
            }),
            0);
  cluster.expect_serves(4);
  EXPECT_EQ(cluster.count(Event::Kind::exit), 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(OwnChild, is_told_that_the_cluster_is_not_its_own) {
  TestCluster cluster(GetParam());
  ASSERT_TRUE(cluster.start(1, Style::watch));
  EXPECT_EQ(in_own_child([&] {
              if (cluster->poll(std::chrono::milliseconds(0)).error().code != EPERM) return 1;
              if (cluster->spawn([](Worker&) { return 0; }).error().code != EPERM) return 2;
              return cluster->join().error().code == EPERM ? 0 : 3;
            }),
            0);
  cluster.expect_serves(4);
  cluster.expect_clean_shutdown();
}

TEST(Spawn, N2_ids_count_from_1_and_the_worker_knows_its_own) {
  TestCluster cluster("auto");
  auto& board = cluster.board();
  for (uint32_t expected = 1; expected <= 3; ++expected) {
    const auto id = cluster->spawn([&, expected](Worker& worker) { return worker.id() == expected ? 0 : board.fail("id"); });
    ASSERT_TRUE(id);
    EXPECT_EQ(*id, expected);
  }
  ASSERT_TRUE(cluster.wait_until("all to leave", [&] { return cluster->done(); }));
  EXPECT_EQ(board.failures, 0u);
}

TEST(Spawn, worker_has_the_signal_mask_and_handlers_of_a_new_program) {
  TestCluster cluster("auto");
  auto& board = cluster.board();
  ASSERT_TRUE(cluster->spawn([&](Worker&) {
    sigset_t blocked;
    ::sigprocmask(SIG_BLOCK, nullptr, &blocked);
    for (const int signal : {SIGINT, SIGCHLD, SIGUSR1, SIGHUP, SIGALRM}) {
      if (::sigismember(&blocked, signal) != 0) return board.fail("blocked: signal " + std::to_string(signal));
    }
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(board.failures, 0u) << board.text.data();
}

TEST(Spawn, worker_that_throws_counts_as_crashed) {
  TestCluster cluster("auto", {.respawn = false});
  ASSERT_TRUE(cluster->spawn([](Worker&) -> int { throw std::runtime_error("as a test asks for"); }));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_FALSE(cluster.event(Event::Kind::exit, 1)->expected);
}

TEST(Spawn, worker_is_told_when_to_drain_although_it_never_listened) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster->spawn([](Worker& worker) {
    while (!worker.draining()) {
      pollfd ready{.fd = worker.fd(), .events = POLLIN, .revents = 0};
      ::poll(&ready, 1, -1);
      if (!worker.dispatch()) return 4;
    }
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_until("the worker", [&] { return cluster.count(Event::Kind::online) == 1; }));
  cluster.expect_clean_shutdown();
}

TEST(Spawn, what_the_function_of_one_holds_its_siblings_let_go_of) {
  TestCluster cluster("auto");
  const Gate end;
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  auto write_end = std::make_shared<UniqueFd>(ends[1]);
  ASSERT_TRUE(cluster->spawn([held = std::move(write_end)](Worker&) { return 0; }));
  ASSERT_TRUE(cluster->spawn([&end](Worker&) {
    end.wait();
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_exit(1));
  pollfd end_of_file{read_end.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&end_of_file, 1, 10'000), 1) << "the sibling has its end of the pipe";
  end.open();
  ASSERT_TRUE(cluster.wait_until("all to leave", [&] { return cluster->done(); }));
}

TEST(Spawn, sixty_workers_come_and_go) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(60, Style::watch));
  const Load load({.to = cluster.address(), .count = 1000, .at_once = 64});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 1000u) << load.describe();
  cluster.expect_clean_shutdown();
}

TEST(Spawn, reader_who_does_not_keep_up_with_standard_output_holds_up_no_fork_and_reads_nothing_twice) {
  in_child([] {
    ::alarm(120);  // a failsafe: it hangs for ever if it hangs
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    const UniqueFd stdout_before(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
    std::string page(4096, 'x');
    while (::write(ends[1], page.data(), page.size()) > 0) {
    }
    ::fcntl(ends[1], F_SETFL, 0);
    ::dup2(ends[1], STDOUT_FILENO);
    ::close(ends[1]);
    std::fputs("said once", stdout);
    {
      TestCluster cluster("shared");
      EXPECT_TRUE(cluster.start(2, Style::watch));
      while (::read(reader.get(), page.data(), page.size()) > 0) {
      }
      cluster.expect_clean_shutdown();
    }
    std::fflush(stdout);
    ::dup2(stdout_before.get(), STDOUT_FILENO);
    page.resize(static_cast<size_t>(std::max<ssize_t>(::read(reader.get(), page.data(), page.size()), 0)));
    EXPECT_EQ(page, "said once");
  });
}

}  // namespace
}  // namespace lb::test
