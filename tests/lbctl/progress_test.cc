// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include "follow.hh"
#include "snapshot_of.hh"

namespace lbctl {
namespace {

using State = Progress::State;

Snapshot rolling(const std::string& state, uint32_t generation) {
  auto snapshot = sample();
  snapshot.roll = {state, generation, 8, 3, 1, 2, state == "failed" ? "worker 9 exited with code 1" : ""};
  return snapshot;
}

TEST(RollProgress, is_told_until_nobody_old_is_left) {
  EXPECT_EQ(roll_progress(rolling("running", 2), 2).state, State::running);
  EXPECT_EQ(roll_progress(rolling("running", 2), 2).text, "generation 2: 3 of 8 replaced, 1 starting, 2 old ones drain");
  EXPECT_EQ(roll_progress(rolling("done", 2), 2).state, State::done);
}

TEST(RollProgress, failure_says_why) {
  const auto progress = roll_progress(rolling("failed", 2), 2);
  EXPECT_EQ(progress.state, State::failed);
  EXPECT_NE(progress.text.find("worker 9 exited with code 1"), std::string::npos) << progress.text;
}

TEST(RollProgress, end_of_an_earlier_roll_is_not_its_own) {
  for (const char* state : {"running", "done", "failed", "none"})
    EXPECT_EQ(roll_progress(rolling(state, 2), 3).state, State::running);
  auto ending = rolling("done", 2);
  ending.primary.state = "draining";
  EXPECT_EQ(roll_progress(ending, 3).state, State::failed) << "what waits does not begin any more";
  EXPECT_EQ(roll_progress(rolling("running", 4), 3).state, State::failed);
}

TEST(ScaleProgress, ends_when_so_many_listen_and_nobody_drains) {
  auto snapshot = sample();  // one listens, one drains, one starts
  EXPECT_EQ(scale_progress(snapshot, 1).state, State::running);
  snapshot.workers[1].state = "listening";
  EXPECT_EQ(scale_progress(snapshot, 2).state, State::done);
  EXPECT_EQ(scale_progress(snapshot, 3).state, State::running);
  snapshot.scaling = "to 2 workers: no slot";
  EXPECT_EQ(scale_progress(snapshot, 2).state, State::running);
  EXPECT_NE(scale_progress(snapshot, 2).text.find("no slot"), std::string::npos);
  snapshot.primary.state = "draining";
  EXPECT_EQ(scale_progress(snapshot, 2).state, State::failed);
}

TEST(UpgradeProgress, ends_when_the_new_primary_answers) {
  auto snapshot = sample();
  snapshot.upgrade = {"starting", 200, ""};
  EXPECT_EQ(upgrade_progress(snapshot, 200).state, State::running);
  snapshot.upgrade.state = "failed";
  snapshot.upgrade.reason = "it exited with code 1";
  EXPECT_EQ(upgrade_progress(snapshot, 200).state, State::failed);
  EXPECT_NE(upgrade_progress(snapshot, 200).text.find("exited with code 1"), std::string::npos);
  EXPECT_EQ(upgrade_progress(snapshot, 199).state, State::failed) << "another one's";
  snapshot.primary.pid = 200;
  EXPECT_EQ(upgrade_progress(snapshot, 200).state, State::done);
}

TEST(PolicyProgress, change_runs_until_none_of_the_endpoints_meant_changes) {
  auto snapshot = sample();
  EXPECT_EQ(policy_progress(snapshot, "").state, State::done);
  snapshot.endpoints[0].changing = "from shared: 1 workers joined, 2 had it";
  EXPECT_EQ(policy_progress(snapshot, "").state, State::running);
  EXPECT_NE(policy_progress(snapshot, "").text.find("from shared"), std::string::npos);
  EXPECT_EQ(policy_progress(snapshot, "tcp://127.0.0.1:0").state, State::running) << "as it was asked for";
  EXPECT_EQ(policy_progress(snapshot, "udp://127.0.0.1:53").state, State::done);
}

TEST(PolicyProgress, what_could_not_be_changed_says_why) {
  auto snapshot = sample();
  snapshot.endpoints[0].not_changed = "reuseport:p2c: no memory";
  EXPECT_EQ(policy_progress(snapshot, "").state, State::failed);
  EXPECT_NE(policy_progress(snapshot, "").text.find("no memory"), std::string::npos);
}

}  // namespace
}  // namespace lbctl
