// SPDX-License-Identifier: MIT
// What a killed primary leaves behind: workers that finish what they hold, within a stated time, and an address for the next one.
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <optional>

#include "contract.hh"
#include "isolation.hh"
#include "run_process.hh"

namespace lb::test {
namespace {

using std::chrono::milliseconds;

/// A server of two workers in processes of their own, whose orphans become the test's children (the test main is their subreaper).
class PrimaryKilled : public PolicyTest {
 protected:
  void start(Style style, milliseconds patience) {
    const ScopedVariable variable("LB_SCHED_POLICY", policy().c_str());
    server_.emplace(Options{.workers = 2, .drain_deadline = patience}, answering(style, *board_));
    ASSERT_TRUE(wait_until("two workers to listen", [&] { return board_->port[1] != 0 && board_->port[2] != 0; }))
        << server_->error();
    at_ = Endpoint::parse("tcp://127.0.0.1:" + std::to_string(board_->port[1])).value();
  }
  void kill_primary() {
    server_->signal(SIGKILL);
    EXPECT_EQ(server_->wait(), 128 + SIGKILL);
  }
  static bool orphans_left() { return ::waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD; }

  Shared<Board> board_;
  std::optional<Server> server_;
  Endpoint at_;
};
LB_FOR_EVERY_POLICY(PrimaryKilled);

TEST_P(PrimaryKilled, under_load_costs_no_connection_that_a_worker_had_accepted) {
  start(Style::watch, milliseconds(60'000));
  Crowd held;
  held.connect(at_, 4);
  ASSERT_TRUE(wait_until(
      "clients in hand", [&] { return held.greeted() == 4; }, &held));
  const Load load({.to = at_, .count = Board::kNumbers - 100, .until_refused = true});
  ASSERT_TRUE(wait_until("load", [&] { return load.answered() >= 300; })) << load.describe();
  kill_primary();
  EXPECT_TRUE(wait_until("nobody to listen any more", [&] { return load.over(); })) << load.describe();
  EXPECT_EQ(held.count(Client::State::greeted), 4u) << "the workers are there, and let go of the port";
  const uint32_t accepted = board_->accepted[1] + board_->accepted[2];
  EXPECT_EQ(load.answered() + held.size(), accepted) << load.describe();
  // The next server, at once, while the old workers finish what they hold.
  Shared<Board> next;
  const ScopedVariable variable("LB_SCHED_POLICY", policy().c_str());
  Server successor({.workers = 2}, answering(Style::watch, *next, at_.to_string()));
  EXPECT_TRUE(wait_until("the successor", [&] { return next->port[1] != 0 && next->port[2] != 0; }))
      << next->text.data() << successor.error();
  Crowd crowd;
  crowd.connect(at_, 10);
  crowd.ask_all();
  EXPECT_TRUE(wait_until(
      "the successor's clients", [&] { return crowd.all(Client::State::finished); }, &crowd));
  held.ask_all();
  EXPECT_TRUE(wait_until(
      "the old workers' clients", [&] { return held.all(Client::State::finished); }, &held));
  EXPECT_EQ(board_->failures, 0u) << board_->text.data();
  successor.signal(SIGTERM);
  EXPECT_EQ(successor.wait(), 0) << successor.error();
  EXPECT_TRUE(wait_until("the orphans to leave", [] { return !orphans_left(); }));
}

TEST_P(PrimaryKilled, workers_that_cannot_finish_are_gone_after_the_drain_deadline) {
  start(Style::watch, milliseconds(100));
  Crowd held;
  held.connect(at_, 2);
  ASSERT_TRUE(wait_until(
      "clients in hand", [&] { return held.greeted() == 2; }, &held));
  kill_primary();
  EXPECT_TRUE(wait_until(
      "the kernel to end them", [&] { return held.all(Client::State::lost); }, &held));
  EXPECT_TRUE(wait_until("the orphans to be gone", [] { return !orphans_left(); }));
}

}  // namespace
}  // namespace lb::test
