// SPDX-License-Identifier: MIT
// lb::run end to end: a server in a process of its own, its signals and its exit code.
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "contract.hh"
#include "isolation.hh"
#include "run_process.hh"

namespace lb::test {
namespace {

class Run : public PolicyTest {
 protected:
  Options options(unsigned workers) const { return {.workers = workers, .policy = Policy::parse(policy()).value()}; }
  /// Where the workers listen, once the first `count` of them do.
  Endpoint address(unsigned count) {
    EXPECT_TRUE(wait_until("the workers to listen", [&] {
      for (unsigned id = 1; id <= count; ++id) {
        if (board_->port[id] == 0) return false;
      }
      return true;
    }));
    return Endpoint::parse("tcp://127.0.0.1:" + std::to_string(board_->port[1])).value();
  }
  Shared<Board> board_;
};
LB_FOR_EVERY_POLICY(Run);

TEST_P(Run, sigterm_drains_under_load_and_the_exit_code_is_0) {
  Server server(options(3), answering(Style::blocking, *board_));
  const Load load({.to = address(3), .count = Board::kNumbers, .at_once = 16, .until_refused = true});
  ASSERT_TRUE(wait_until("load", [&] { return load.answered() >= 300; })) << server.error();
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0) << server.error();
  ASSERT_TRUE(wait_until("the load to end", [&] { return load.over(); }));
  EXPECT_EQ(load.lost(), 0u) << load.describe();
  EXPECT_EQ(board_->served_twice(), 0u);
}

TEST_P(Run, sigint_drains_and_the_exit_code_is_0) {
  Server server(options(2), answering(Style::watch, *board_));
  Crowd crowd;
  crowd.connect(address(2), 1);
  ASSERT_TRUE(wait_until(
      "a client in hand", [&] { return crowd.greeted() == 1; }, &crowd));
  server.signal(SIGINT);
  crowd.ask_all();
  EXPECT_TRUE(wait_until(
      "the client to be served", [&] { return crowd.all(Client::State::finished); }, &crowd));
  EXPECT_EQ(server.wait(), 0) << server.error();
}

TEST_P(Run, sigusr1_prints_the_status) {
  Server server(options(2), answering(Style::blocking, *board_));
  const auto at = address(2);
  server.signal(SIGUSR1);
  const auto name = std::string(Policy::parse(policy())->to_string());
  EXPECT_TRUE(wait_until("the status", [&] { return server.says(name) && server.says(at.to_string()); })) << server.error();
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
}

TEST_P(Run, sighup_replaces_the_workers_under_load) {
  Server server(options(2), answering(Style::blocking, *board_));
  const Load load({.to = address(2), .count = Board::kNumbers, .at_once = 8, .until_refused = true});
  server.signal(SIGHUP);
  EXPECT_TRUE(wait_until("both replacements", [&] { return board_->port[3] != 0 && board_->port[4] != 0; })) << server.error();
  EXPECT_TRUE(wait_until("the end of the roll", [&] {
    server.signal(SIGUSR1);
    return server.says("roll to generation 2: done, 2 of 2 replaced");
  })) << server.error();
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0) << server.error();
  ASSERT_TRUE(wait_until("the load to end", [&] { return load.over(); }));
  EXPECT_EQ(load.lost(), 0u) << load.describe();
}

TEST_P(Run, second_sigterm_kills_and_the_exit_code_is_1) {
  Server server(options(2), answering(Style::blocking, *board_));
  Crowd crowd;
  crowd.connect(address(2), 1);
  ASSERT_TRUE(wait_until(
      "a busy worker", [&] { return crowd.greeted() == 1; }, &crowd));
  server.signal(SIGTERM);
  ASSERT_TRUE(wait_until("the drain to begin", [&] {
    server.signal(SIGUSR1);
    return server.says("draining");
  })) << server.error();
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 1) << server.error();
  crowd.leave_all();
}

TEST_P(Run, killed_primary_leaves_no_worker_behind_and_its_successor_binds_the_same_port) {
  for (const Style style : kStyles) {
    SCOPED_TRACE(name_of(style));
    Shared<Board> board;
    Endpoint at;
    {
      Server server(options(2), answering(style, *board));
      ASSERT_TRUE(wait_until("two workers to listen", [&] { return board->port[1] != 0 && board->port[2] != 0; }))
          << server.error();
      at = Endpoint::parse("tcp://127.0.0.1:" + std::to_string(board->port[1])).value();
      Crowd crowd;
      crowd.connect(at, 1);
      ASSERT_TRUE(wait_until(
          "a client in hand", [&] { return crowd.greeted() == 1; }, &crowd))
          << server.error();
      server.signal(SIGKILL);
      EXPECT_EQ(server.wait(), 128 + SIGKILL);
      crowd.ask_all();
      EXPECT_TRUE(wait_until(
          "the client to be served to the end", [&] { return crowd.all(Client::State::finished); }, &crowd));
    }
    // The orphans are ours now: the test main is their subreaper.
    EXPECT_TRUE(wait_until("the workers to leave", [] { return ::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD; }));
    Shared<Board> next;
    Server successor(options(2), answering(style, *next, at.to_string()));
    Crowd crowd;
    EXPECT_TRUE(wait_until("the successor", [&] { return next->port[1] + next->port[2] != 0; }))
        << next->text.data() << successor.error();
    crowd.connect(at, 10);
    crowd.ask_all();
    EXPECT_TRUE(wait_until(
        "the clients", [&] { return crowd.all(Client::State::finished); }, &crowd));
    successor.signal(SIGTERM);
    EXPECT_EQ(successor.wait(), 0) << successor.error();
  }
}

TEST(RunExit, cluster_that_cannot_be_made_is_2_with_the_reason) {
  const ScopedVariable variable("LB_SCHED_POLICY", "fastest");
  Server server({.workers = 1}, [](Worker&) { return 0; });
  EXPECT_EQ(server.wait(), 2);
  EXPECT_TRUE(server.says("fastest") && server.says("round-robin")) << server.error();
}

TEST(RunExit, worker_lost_for_good_is_1) {
  Server server({.workers = 1, .respawn = false}, [](Worker&) { return 9; });
  EXPECT_EQ(server.wait(), 1) << server.error();
}

TEST(RunExit, workers_that_all_leave_by_themselves_are_0) {
  Server server({.workers = 2}, [](Worker&) { return 0; });
  EXPECT_EQ(server.wait(), 0) << server.error();
}

TEST(RunExit, starts_one_worker_for_each_cpu_it_may_use) {
  in_child([] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    Shared<Board> board;
    Server server({}, [&](Worker&) {
      ++board->flag[0];
      return 0;
    });
    EXPECT_EQ(server.wait(), 0) << server.error();
    EXPECT_EQ(board->flag[0], 1u);
  });
}

}  // namespace
}  // namespace lb::test
