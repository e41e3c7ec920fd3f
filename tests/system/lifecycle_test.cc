// SPDX-License-Identifier: MIT
// What happens to a worker, in which order, and how it is told; the same for every kind.
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "contract.hh"

namespace lb::test {
namespace {

using Kind = Event::Kind;
using std::chrono::milliseconds;

class EveryKind : public testing::TestWithParam<WorkerKind> {
 protected:
  static Setting setting() { return {"auto", GetParam()}; }
};
INSTANTIATE_TEST_SUITE_P(worker, EveryKind, testing::ValuesIn(kKinds), kind_name);

class EveryProcessKind : public EveryKind {};
INSTANTIATE_TEST_SUITE_P(worker, EveryProcessKind, testing::ValuesIn(kProcessKinds), kind_name);

class LifecycleEveryKind : public KindTest {};
LB_FOR_EVERY_POLICY_AND_KIND(LifecycleEveryKind);

/// Gets as far as listening: one that never does is not replaced, since the server cannot start.
const Program kListenAndReturn("listen and return", [](Worker& worker, Board&, const std::string& code) {
  const auto listener = worker.listen(kAnyPort);
  return listener ? std::atoi(code.c_str()) : 99;
});

const Program kReturn("return", [](Worker&, Board&, const std::string& code) { return std::atoi(code.c_str()); });

/// Leaves by its own will as soon as it has served one client.
const Program kLeaveAfterOne("leave after one", [](Worker& worker, Board& board, const std::string&) {
  auto listener = worker.listen(kAnyPort).value();
  while (auto connection = listener.accept()) {
    answer_one(worker, *connection, board);
    worker.leave();
    worker.leave();
  }
  return listener.drained() && worker.draining() ? 0 : board.fail("not drained");
});

std::vector<Kind> history(const TestCluster& cluster, uint32_t worker) {
  std::vector<Kind> kinds;
  for (const auto& seen : cluster.events()) {
    if (seen.worker == worker) kinds.push_back(seen.kind);
  }
  return kinds;
}

TEST_P(EveryKind, N7_crash_is_spawned_online_listening_disconnected_exit_in_this_order) {
  TestCluster cluster(setting(), {.respawn = false});
  ASSERT_TRUE(cluster.spawn(kListenAndReturn, "7"));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(history(cluster, 1), (std::vector<Kind>{Kind::spawned, Kind::online, Kind::listening, Kind::disconnected, Kind::exit}));
  EXPECT_EQ(cluster.event(Kind::exit, 1)->exit_code, 7);
}

TEST_P(EveryKind, N7_spawned_is_told_from_poll_and_comes_before_a_drain_that_is_asked_for_at_once) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.spawn(kAnswering, answering_argument(Style::watch)));
  EXPECT_TRUE(cluster.events().empty()) << "spawn called back";
  ASSERT_TRUE(cluster->drain(1));
  ASSERT_TRUE(cluster.wait_exit(1));
  const auto kinds = history(cluster, 1);
  EXPECT_EQ(kinds.at(0), Kind::spawned);
  EXPECT_EQ(kinds.at(1), Kind::draining);
  EXPECT_EQ(kinds.at(kinds.size() - 2), Kind::disconnected);
  EXPECT_EQ(kinds.back(), Kind::exit);
  EXPECT_TRUE(cluster.event(Kind::exit, 1)->expected);
}

TEST_P(LifecycleEveryKind, N26_drain_with_a_deadline_ends_although_a_client_stays) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  const auto stuck = crowd[0].worker();
  ASSERT_TRUE(cluster->drain(stuck));  // the options' half minute
  ASSERT_TRUE(cluster->drain(stuck, milliseconds(10)));
  ASSERT_TRUE(cluster->drain(stuck, milliseconds::max())) << "patience is not given back";
  ASSERT_TRUE(cluster.wait_exit(stuck));
  EXPECT_FALSE(cluster.event(Kind::exit, stuck)->expected);
  EXPECT_EQ(cluster.event(Kind::exit, stuck)->signal, kind() == WorkerKind::thread ? 0 : SIGKILL);
  crowd.leave_all();
  crowd.connect(cluster.address(), 5);
  for (size_t i = 1; i < crowd.size(); ++i) crowd[i].ask();
  EXPECT_TRUE(cluster.wait_until(
      "the other worker to serve", [&] { return crowd.count(Client::State::finished) == 5; }, &crowd));
  EXPECT_TRUE(cluster.shut_down());
  EXPECT_EQ(cluster->exit_code(), 1);
}

TEST_P(EveryKind, N26_negative_deadline_is_einval) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(1, Style::watch));
  EXPECT_EQ(cluster->drain(1, milliseconds(-1)).error().code, EINVAL);
  EXPECT_EQ(cluster->drain(9, milliseconds(1)).error().code, ESRCH);
  cluster.expect_clean_shutdown();
}

TEST_P(EveryKind, N27_who_returns_0_or_was_told_to_leave_has_not_crashed) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(1, Style::watch));
  ASSERT_TRUE(cluster.spawn(kReturn, "0"));
  ASSERT_TRUE(cluster.wait_exit(2));
  EXPECT_TRUE(cluster.event(Kind::exit, 2)->expected);
  EXPECT_FALSE(cluster.worker(1).exited_after_disconnect);
  ASSERT_TRUE(cluster->drain(1));
  EXPECT_TRUE(cluster.worker(1).exited_after_disconnect);
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_TRUE(cluster.event(Kind::exit, 1)->expected);
  EXPECT_EQ(cluster.count(Kind::spawned), 2u) << "somebody was replaced";
  EXPECT_TRUE(cluster->done());
  EXPECT_EQ(cluster->exit_code(), 0);
}

const Program kMoveAway("move away", [](Worker& worker, Board&, const std::string& code) {
  const Worker own = std::move(worker);
  return std::atoi(code.c_str());
});

TEST_P(EveryKind, N27_who_moves_its_worker_away_leaves_and_crashes_as_any_other) {
  TestCluster cluster(setting(), {.respawn = false});
  ASSERT_TRUE(cluster.spawn(kMoveAway, "0"));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_TRUE(cluster.event(Kind::exit, 1)->expected);
  ASSERT_TRUE(cluster.spawn(kMoveAway, "3"));
  ASSERT_TRUE(cluster.wait_exit(2));
  EXPECT_FALSE(cluster.event(Kind::exit, 2)->expected);
}

TEST_P(EveryKind, N27_who_returns_another_code_has_crashed) {
  TestCluster cluster(setting(), {.respawn = false});
  ASSERT_TRUE(cluster.spawn(kReturn, "3"));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_FALSE(cluster.event(Kind::exit, 1)->expected);
  EXPECT_EQ(cluster.event(Kind::exit, 1)->exit_code, 3);
  EXPECT_EQ(cluster->exit_code(), 1);
}

TEST_P(LifecycleEveryKind, N27_worker_that_asks_to_leave_is_drained_and_not_replaced) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(1, kLeaveAfterOne));
  const auto stays = cluster.spawn(kAnswering, answering_argument(Style::blocking));
  ASSERT_TRUE(stays);
  ASSERT_TRUE(cluster.wait_until("both", [&] { return cluster.count(Kind::listening) == 2; }));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 2));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_TRUE(cluster.event(Kind::exit, 1)->expected);
  EXPECT_NE(cluster.event(Kind::draining, 1), nullptr);
  EXPECT_EQ(cluster.count(Kind::spawned), 2u);
  cluster.expect_clean_shutdown();
}

/// Has a child of its own, which gets SIGTERM.
const Program kServeAfterChild("serve after a child", [](Worker& worker, Board& board, const std::string&) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::raise(SIGTERM);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGTERM) return board.fail("the child took no notice of SIGTERM");
  return answering(Style::watch, board)(worker);
});

TEST_P(EveryProcessKind, N28_sigterm_to_a_child_that_a_worker_forked_ends_the_child_and_drains_nobody) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(1, kServeAfterChild));
  Crowd crowd;
  crowd.connect(cluster.address(), 3);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.count(Kind::draining), 0u) << cluster.describe();
  cluster.expect_clean_shutdown();
}

TEST_P(EveryProcessKind, N28_kill_sends_a_signal_and_sigkill_is_no_crash) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(3, Style::watch));
  EXPECT_TRUE(cluster->kill(1, 0));
  ASSERT_TRUE(cluster->kill(1, SIGKILL));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.event(Kind::exit, 1)->signal, SIGKILL);
  EXPECT_TRUE(cluster.event(Kind::exit, 1)->expected) << "we asked for it";
  ASSERT_TRUE(cluster->kill(2, SIGTERM));
  ASSERT_TRUE(cluster.wait_exit(2));
  EXPECT_EQ(cluster.event(Kind::exit, 2)->signal, 0) << "it drains";
  EXPECT_TRUE(cluster.event(Kind::exit, 2)->expected);
  EXPECT_EQ(cluster.count(Kind::spawned), 3u) << "somebody was replaced";
  ASSERT_TRUE(cluster->kill(3, SIGUSR2));
  ASSERT_TRUE(cluster.wait_exit(3));
  EXPECT_FALSE(cluster.event(Kind::exit, 3)->expected) << "any other signal is just that";
  ASSERT_TRUE(cluster.wait_until("a replacement", [&] { return cluster.event(Kind::listening, 4) != nullptr; }));
  EXPECT_EQ(cluster->kill(4, 4711).error().code, EINVAL);
  for (const uint32_t gone : {1, 9}) EXPECT_EQ(cluster->kill(gone, SIGTERM).error().code, ESRCH) << gone;
  cluster.expect_clean_shutdown();
}

TEST_P(EveryKind, N28_is_connected_and_is_dead_follow_the_events) {
  TestCluster cluster(setting());
  EXPECT_FALSE(cluster->is_connected(1));
  EXPECT_FALSE(cluster->is_dead(1)) << "it has not been there yet";
  ASSERT_TRUE(cluster.start(1, Style::watch));
  EXPECT_TRUE(cluster->is_connected(1));
  EXPECT_FALSE(cluster->is_dead(1));
  ASSERT_EQ(cluster->workers().size(), 1u);
  ASSERT_TRUE(cluster->drain(1));
  EXPECT_TRUE(cluster->is_connected(1)) << "it is still draining";
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_FALSE(cluster->is_connected(1));
  EXPECT_TRUE(cluster->is_dead(1));
  EXPECT_FALSE(cluster->is_dead(2));
  EXPECT_FALSE(cluster->is_dead(0));
  EXPECT_TRUE(cluster->workers().empty());
}

TEST(ThreadWhoseChannelDrops, N30_serves_what_it_has_and_ends) {
  Crowd crowd;
  {
    TestCluster cluster({"auto", WorkerKind::thread});
    ASSERT_TRUE(cluster.start(2, Style::watch));
    crowd.connect(cluster.address(), 4);
    ASSERT_TRUE(cluster.wait_greeted(crowd));
    crowd.ask_all();
  }  // cuts them off and waits for them
  for (auto& client : crowd) {
    client.step();
    EXPECT_EQ(client.state(), Client::State::finished) << client.describe();
  }
}

TEST_P(EveryProcessKind, N30_killed_primary_leaves_workers_that_finish_and_go) {
  const Shared<Board> board;
  const pid_t primary = ::fork();
  if (primary == 0) {
    const Options options{.workers = 2};
    const auto argument = answering_argument(Style::watch);
    ::_exit(GetParam() == WorkerKind::command ? run(options, kAnswering.command(board, argument))
                                              : run(options, kAnswering.function(*board, argument)));
  }
  ASSERT_TRUE(wait_until("the workers", [&] { return board->port[1] != 0 && board->port[2] != 0; }));
  Crowd crowd;
  crowd.connect(Endpoint::parse("tcp://127.0.0.1:" + std::to_string(board->port[1])).value(), 4);
  ASSERT_TRUE(wait_until(
      "the clients to be greeted", [&] { return crowd.greeted() == 4; }, &crowd));
  ::kill(primary, SIGKILL);
  ASSERT_EQ(::waitpid(primary, nullptr, 0), primary);
  crowd.ask_all();
  EXPECT_TRUE(wait_until(
      "the clients to be served", [&] { return crowd.all(Client::State::finished); }, &crowd));
  // The orphans are ours now: the test main is their subreaper.
  EXPECT_TRUE(wait_until("the workers to go", [] { return ::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD; }));
}

/// The first lets go of its channel and does nothing more, ever.
const Program kLetGoAndLiveOn("let go and live on", [](Worker& worker, Board& board, const std::string&) {
  if (board.flag[0]++ != 0) return answering(Style::watch, board)(worker);
  const auto listener = worker.listen(kAnyPort);
  for (int fd = 3; fd < 1024; ++fd) {
    int type = 0;
    socklen_t length = sizeof type;
    if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_SEQPACKET) ::close(fd);
  }
  while (true) ::pause();
  return 0;
});

TEST_P(EveryProcessKind, N30_worker_that_lets_go_of_its_channel_and_lives_on_is_killed_and_replaced) {
  TestCluster cluster(setting(), {.drain_deadline = milliseconds(20)});
  ASSERT_TRUE(cluster.spawn(kLetGoAndLiveOn));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(history(cluster, 1), (std::vector<Kind>{Kind::spawned, Kind::online, Kind::listening, Kind::disconnected, Kind::exit}));
  EXPECT_EQ(cluster.event(Kind::exit, 1)->signal, SIGKILL);
  EXPECT_FALSE(cluster.event(Kind::exit, 1)->expected);
  ASSERT_TRUE(cluster.wait_until("a replacement", [&] { return cluster.event(Kind::listening, 2) != nullptr; }));
  EXPECT_TRUE(cluster.shut_down());
}

const Program kDestroyAndLiveOn("destroy and live on", [](Worker& worker, Board&, const std::string&) {
  { const auto listener = worker.listen(kAnyPort); }
  { const Worker last = std::move(worker); }
  while (true) ::pause();
  return 0;
});

TEST(CommandWhoseWorkerIsDestroyed, N27_has_left_and_is_killed_but_not_replaced_when_it_lives_on) {
  TestCluster cluster({"auto", WorkerKind::command}, {.drain_deadline = milliseconds(20)});
  ASSERT_TRUE(cluster.spawn(kDestroyAndLiveOn));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.event(Kind::exit, 1)->signal, SIGKILL);
  EXPECT_EQ(cluster.count(Kind::spawned), 1u);
  EXPECT_TRUE(cluster->done());
  EXPECT_EQ(cluster->exit_code(), 1) << "it had to be killed";
}

TEST_P(EveryKind, N31_crash_loop_is_respawned_with_growing_pauses_and_reported) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.spawn(kListenAndReturn, "7"));
  ASSERT_TRUE(cluster.wait_until("two reports", [&] { return cluster.count(Kind::crash_loop) == 2; }));
  milliseconds last{0};
  for (const auto& seen : cluster.events()) {
    if (seen.kind == Kind::exit) {
      EXPECT_EQ(seen.exit_code, 7);
      EXPECT_FALSE(seen.expected);
    }
    if (seen.kind != Kind::crash_loop) continue;
    EXPECT_GT(seen.backoff, last);
    last = seen.backoff;
  }
  EXPECT_EQ(cluster.count(Kind::exit), 3u) << "the first crash is not a loop";
  EXPECT_FALSE(cluster->done());
  EXPECT_TRUE(cluster.shut_down()) << "a pending replacement must not hold up the shutdown";
}

TEST_P(EveryKind, N31_server_that_cannot_start_ends_instead_of_trying_for_ever) {
  TestCluster cluster(setting());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(cluster.spawn(kReturn, "7"));
  ASSERT_TRUE(cluster.wait_until("all to be gone", [&] { return cluster->done(); }));
  EXPECT_EQ(cluster.count(Kind::exit), 3u);
  EXPECT_EQ(cluster.count(Kind::crash_loop), 0u);
  EXPECT_EQ(cluster->exit_code(), 1);
}

}  // namespace
}  // namespace lb::test
