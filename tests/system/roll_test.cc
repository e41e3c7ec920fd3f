// SPDX-License-Identifier: MIT
// Rolling restart: replacements first, nothing lost, and a version that does not come up replaces nobody.
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "contract.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

using Kind = Event::Kind;
using std::chrono::milliseconds;

class Rolling : public PolicyTest {};
LB_FOR_EVERY_POLICY(Rolling);

class RollingKind : public testing::TestWithParam<WorkerKind> {
 protected:
  static Setting setting() { return {"auto", GetParam()}; }
};
INSTANTIATE_TEST_SUITE_P(worker, RollingKind, testing::ValuesIn(kKinds), kind_name);

bool wait_rolled(TestCluster& cluster, unsigned rolls = 1, Crowd* crowd = nullptr) {
  return cluster.wait_until(
      "the roll", [&] { return cluster.count(Kind::roll_done) + cluster.count(Kind::roll_failed) >= rolls; }, crowd);
}

void expect_generation(TestCluster& cluster, uint32_t generation, size_t workers) {
  const auto all = cluster->workers();
  EXPECT_EQ(all.size(), workers) << cluster.describe();
  for (const auto& worker : all) EXPECT_EQ(worker.generation, generation) << cluster.describe();
}

/// Does as the board's first flag says: 0 serves, 1 exits before it listens, 2 never listens, 3 crashes once it listens.
enum Part : uint32_t { kServe, kExit, kIdle, kCrash };
const Program kAsTold("as told", [](Worker& worker, Board& board, const std::string&) {
  switch (board.flag[0]) {
    case kExit:
      return 5;
    case kIdle:
      board.flag[1] = 1;
      while (!worker.draining()) {
        pollfd word{worker.fd(), POLLIN, 0};
        ::poll(&word, 1, -1);
        (void)worker.dispatch();
      }
      return 0;
    case kCrash: {
      const auto listener = worker.listen(kAnyPort);
      ::raise(SIGKILL);
      return 0;
    }
    default:
      return answering(Style::watch, board)(worker);
  }
});

TEST_P(Rolling, restart_under_load_replaces_every_worker_and_loses_nothing) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(3, Style::blocking));
  const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 16});
  for (unsigned rolls = 1; rolls <= 2; ++rolls) {
    const uint32_t answered = load.answered();
    ASSERT_TRUE(cluster.wait_until("load", [&] { return load.over() || load.answered() >= answered + 200; }));
    ASSERT_TRUE(cluster->roll({.at_once = rolls}));
    ASSERT_TRUE(wait_rolled(cluster, rolls));
    expect_generation(cluster, rolls + 1, 3);
  }
  const uint32_t answered = load.answered();
  ASSERT_TRUE(cluster.wait_until("load on the new ones", [&] { return load.over() || load.answered() >= answered + 200; }));
  load.stop();
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.lost() + load.refused(), 0u) << load.describe();
  EXPECT_EQ(cluster.board().served_twice(), 0u);
  EXPECT_EQ(cluster.count(Kind::roll_step), 6u);
  EXPECT_EQ(cluster.count(Kind::roll_begun), 2u);
  const auto status = cluster->status();
  EXPECT_EQ(status.generation, 3u);
  EXPECT_EQ(status.roll.state, RollStatus::State::done);
  EXPECT_EQ(status.roll.replaced, 3u);
  cluster.expect_clean_shutdown();
}

TEST_P(RollingKind, replaces_workers_of_every_kind_one_by_one) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(2, Style::watch));
  ASSERT_TRUE(cluster->roll());
  ASSERT_TRUE(wait_rolled(cluster));
  expect_generation(cluster, 2, 2);
  for (const auto& seen : cluster.events()) {
    if (seen.kind != Kind::roll_step) continue;
    const auto before = [&](Kind kind, uint32_t worker) { return cluster.event(kind, worker) < &seen; };
    EXPECT_TRUE(before(Kind::listening, seen.worker)) << "it did not listen yet";
    EXPECT_FALSE(before(Kind::draining, seen.replaced)) << "the old one was told too early";
    EXPECT_EQ(seen.generation, 2u);
  }
  cluster.expect_clean_shutdown();
}

TEST_P(RollingKind, replacement_that_ends_before_it_listens_stops_the_roll_and_the_old_ones_serve) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(2, kAsTold));
  cluster.board().flag[0] = kExit;
  ASSERT_TRUE(cluster->roll());
  ASSERT_TRUE(wait_rolled(cluster));
  EXPECT_EQ(cluster.count(Kind::roll_failed), 1u);
  expect_generation(cluster, 1, 2);
  const auto roll = cluster->status().roll;
  EXPECT_EQ(roll.state, RollStatus::State::failed);
  EXPECT_NE(roll.reason.find("exited with code 5"), std::string::npos) << roll.reason;
  EXPECT_NE(cluster->status().to_string().find("exited with code 5"), std::string::npos);
  Crowd crowd;
  crowd.connect(cluster.address(), 4);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));

  cluster.board().flag[0] = kServe;
  ASSERT_TRUE(cluster->roll());
  ASSERT_TRUE(wait_rolled(cluster, 2));
  expect_generation(cluster, 3, 2);
  cluster.expect_clean_shutdown();
}

TEST(Roll, replacement_that_does_not_listen_in_time_is_ended_and_stops_the_roll) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, kAsTold));
  cluster.board().flag[0] = kIdle;
  ASSERT_TRUE(cluster->roll({.at_once = 2, .ready_deadline = milliseconds(30)}));
  ASSERT_TRUE(wait_rolled(cluster));
  EXPECT_EQ(cluster->status().roll.state, RollStatus::State::failed);
  EXPECT_NE(cluster->status().roll.reason.find("1 endpoints after 30 ms"), std::string::npos) << cluster->status().roll.reason;
  ASSERT_TRUE(cluster.wait_exit(3));
  ASSERT_TRUE(cluster.wait_exit(4));
  expect_generation(cluster, 1, 2);
  cluster.expect_clean_shutdown();
}

/// Two endpoints each. Worker 3, a replacement, serves the first of them before it listens on the second, which it never does;
/// worker 4, another, exits when told.
const Program kHalfWay("half way", [](Worker& worker, Board& board, const std::string&) {
  if (worker.id() == 4) {
    while (board.flag[0] == 0) ::poll(nullptr, 0, 1);
    return 5;
  }
  auto first = worker.listen(kAnyPort);
  if (!first || worker.id() == 3) return first ? answer_all(worker, *first, Style::watch, board) : 1;
  auto second = worker.listen(kAnyPort);
  return second ? answer_both(worker, {std::move(*first), std::move(*second)}, board) : 1;
});

TEST(Roll, replacement_that_serves_already_when_the_roll_stops_finishes_what_it_has) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, kHalfWay, "", 2));
  ASSERT_TRUE(cluster->roll({.at_once = 2}));
  ASSERT_TRUE(cluster.wait_until("the replacement", [&] { return cluster.event(Kind::listening, 3) != nullptr; }));
  Crowd crowd;
  crowd.connect(cluster.address(), 12);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  ASSERT_NE(crowd.of_worker(3), nullptr) << crowd.describe();
  cluster.board().flag[0] = 1;
  ASSERT_TRUE(wait_rolled(cluster));
  EXPECT_EQ(cluster->status().roll.state, RollStatus::State::failed);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_TRUE(crowd.all(Client::State::finished)) << crowd.describe();
  ASSERT_TRUE(cluster.wait_exit(3));
  expect_generation(cluster, 1, 2);
  cluster.expect_clean_shutdown();
}

TEST(Roll, version_that_crashes_again_and_again_once_it_listens_stops_the_roll) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(3, kAsTold));
  cluster.board().flag[0] = kCrash;
  ASSERT_TRUE(cluster->roll());
  ASSERT_TRUE(wait_rolled(cluster));
  EXPECT_EQ(cluster.count(Kind::roll_failed), 1u) << cluster.describe();
  const auto workers = cluster->workers();
  EXPECT_GE(std::count_if(workers.begin(), workers.end(), [](const auto& worker) { return worker.generation == 1; }), 1)
      << cluster.describe();
  cluster.board().flag[0] = kServe;
  EXPECT_TRUE(cluster.shut_down());
}

TEST(Roll, worker_that_crashes_before_its_turn_is_replaced_by_the_new_generation) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(3, kAsTold));
  ASSERT_EQ(::kill(cluster.worker(3).pid, SIGKILL), 0);
  ASSERT_TRUE(cluster->roll());
  ASSERT_TRUE(wait_rolled(cluster));
  EXPECT_EQ(cluster.count(Kind::roll_done), 1u) << cluster.describe();
  expect_generation(cluster, 2, 3);
  cluster.expect_clean_shutdown();
}

TEST(Roll, worker_that_crashed_while_the_roll_failed_comes_back_as_it_was) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, kAsTold));
  cluster.board().flag[0] = kIdle;
  ASSERT_TRUE(cluster->roll({.ready_deadline = milliseconds(200)}));
  ASSERT_TRUE(cluster.wait_until("the replacement to idle", [&] { return cluster.board().flag[1] == 1; }));
  cluster.board().flag[0] = kServe;
  for (const uint32_t id : {1, 2}) ASSERT_EQ(::kill(cluster.worker(id).pid, SIGKILL), 0);
  ASSERT_TRUE(cluster.wait_exit(1) && cluster.wait_exit(2));
  ASSERT_TRUE(wait_rolled(cluster));
  EXPECT_EQ(cluster.count(Kind::roll_failed), 1u) << cluster.describe();
  ASSERT_TRUE(cluster.wait_until("both to be back", [&] { return cluster.count(Kind::listening) == 4; }));
  ASSERT_TRUE(cluster.wait_exit(3));
  expect_generation(cluster, 1, 2);
  EXPECT_TRUE(cluster.shut_down());
}

TEST(Roll, another_that_is_asked_for_meanwhile_follows_and_several_are_one) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, Style::watch));
  ASSERT_TRUE(cluster->roll());
  ASSERT_TRUE(cluster.wait_until("the roll to begin", [&] { return cluster.count(Kind::roll_begun) == 1; }));
  ASSERT_TRUE(cluster->roll());
  ASSERT_TRUE(cluster->roll());
  EXPECT_TRUE(cluster->status().roll.queued);
  ASSERT_TRUE(wait_rolled(cluster, 2));
  EXPECT_FALSE(cluster->status().roll.queued);
  expect_generation(cluster, 3, 2);
  EXPECT_EQ(cluster.count(Kind::roll_begun), 2u);
  cluster.expect_clean_shutdown();
}

TEST(Roll, deadline_may_be_for_ever) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(2, Style::watch));
  ASSERT_TRUE(cluster->roll({.ready_deadline = milliseconds::max(), .drain_deadline = milliseconds::max()}));
  ASSERT_TRUE(wait_rolled(cluster));
  EXPECT_EQ(cluster->status().roll.reason, "");
  EXPECT_EQ(cluster->status().roll.replaced, 2u);
  cluster.expect_clean_shutdown();
}

TEST(Roll, connection_that_lives_on_is_served_until_the_drain_deadline_and_cut_then) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, Style::watch));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  const uint32_t its = crowd[0].worker();
  ASSERT_TRUE(cluster->roll({.drain_deadline = milliseconds(100)}));
  ASSERT_TRUE(wait_rolled(cluster, 1, &crowd));
  expect_generation(cluster, 2, 2);
  EXPECT_EQ(cluster.event(Kind::exit, its)->signal, SIGKILL);
  EXPECT_TRUE(cluster.event(Kind::exit, its)->expected);
  crowd.leave_all();
  cluster.expect_clean_shutdown();
}

TEST(Roll, drain_of_a_worker_in_its_step_cancels_the_step) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, kAsTold));
  cluster.board().flag[0] = kIdle;
  ASSERT_TRUE(cluster->roll());
  ASSERT_TRUE(cluster.wait_until("the roll to begin", [&] { return cluster.count(Kind::spawned) == 3; }));
  ASSERT_TRUE(cluster->drain(1));
  cluster.board().flag[0] = kServe;
  ASSERT_TRUE(wait_rolled(cluster));
  ASSERT_TRUE(cluster.wait_exit(3));
  expect_generation(cluster, 2, 1);
  cluster.expect_clean_shutdown();
}

const Program kNoteVersion("note version", [](Worker& worker, Board& board, const std::string& argument) {
  const char* version = ::getenv("ROLL_VERSION");
  board.flag[worker.id()] = static_cast<uint32_t>(std::atoi(version != nullptr ? version : argument.c_str()));
  return answering(Style::watch, board)(worker);
});

TEST_P(RollingKind, new_environment_reaches_the_replacements_and_who_replaces_them) {
  if (GetParam() == WorkerKind::thread) return;  // all threads have the process's
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(1, kNoteVersion, "1"));
  ASSERT_TRUE(cluster->roll({.env = {"ROLL_VERSION=2"}}));
  ASSERT_TRUE(wait_rolled(cluster));
  ASSERT_EQ(::kill(cluster.worker(2).pid, SIGKILL), 0);
  ASSERT_TRUE(cluster.wait_until("the replacement", [&] { return cluster.event(Kind::listening, 3) != nullptr; }));
  EXPECT_EQ(cluster.board().flag[1], 1u);
  EXPECT_EQ(cluster.board().flag[2], 2u);
  EXPECT_EQ(cluster.board().flag[3], 2u);
  EXPECT_TRUE(cluster.shut_down());
  EXPECT_EQ(cluster->roll().error().code, ESHUTDOWN);
}

/// A program that is this one with ROLL_VERSION set, put in the place of what is at `path`.
void install(const std::string& path, const std::string& version) {
  std::array<char, 4096> own{};
  ASSERT_GT(::readlink("/proc/self/exe", own.data(), own.size() - 1), 0);
  std::ofstream(path + ".new") << "#!/bin/sh\nROLL_VERSION=" << version << " exec " << own.data() << " \"$@\"\n";
  ASSERT_EQ(::chmod((path + ".new").c_str(), 0755), 0);
  ASSERT_EQ(::rename((path + ".new").c_str(), path.c_str()), 0);
}

TEST(Roll, command_whose_file_was_replaced_runs_the_new_one_and_one_that_cannot_start_stops_the_roll) {
  const Folder folder;
  const std::string path = folder.path("server");
  install(path, "1");
  TestCluster cluster(Setting("auto", WorkerKind::command));
  Command command = kNoteVersion.command(cluster.shared_board());
  command.path = path;
  ASSERT_TRUE(cluster->spawn(command));
  ASSERT_TRUE(cluster.wait_until("it to listen", [&] { return cluster.count(Kind::listening) == 1; }));
  install(path, "2");
  ASSERT_TRUE(cluster->roll());
  ASSERT_TRUE(wait_rolled(cluster));
  EXPECT_EQ(cluster.board().flag[1], 1u);
  EXPECT_EQ(cluster.board().flag[2], 2u);

  ASSERT_EQ(::unlink(path.c_str()), 0);
  ASSERT_TRUE(cluster->roll());
  ASSERT_TRUE(wait_rolled(cluster, 2));
  EXPECT_NE(cluster->status().roll.reason.find(path), std::string::npos) << cluster->status().roll.reason;
  expect_generation(cluster, 2, 1);
  cluster.expect_clean_shutdown();
}

TEST(Roll, options_out_of_range_are_refused) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.made());
  EXPECT_EQ(cluster->roll({.at_once = 0}).error().code, EINVAL);
  EXPECT_EQ(cluster->roll({.ready_deadline = milliseconds(0)}).error().code, EINVAL);
  EXPECT_EQ(cluster->roll({.drain_deadline = milliseconds(-1)}).error().code, EINVAL);
  EXPECT_EQ(cluster->roll({.env = {"no equals sign"}}).error().code, EINVAL);
}

}  // namespace
}  // namespace lb::test
