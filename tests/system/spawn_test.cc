// SPDX-License-Identifier: MIT
// What a forked worker is, and when forking is refused.
#include <poll.h>

#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <thread>

#include "contract.hh"

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

TEST(Spawn, sixty_workers_come_and_go) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(60, Style::watch));
  const Load load({.to = cluster.address(), .count = 1000, .at_once = 64});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 1000u) << load.describe();
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
