// SPDX-License-Identifier: MIT
#include "advice.hh"

#include <gtest/gtest.h>

#include "sample.hh"

namespace lbbench {
namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string all(const Advice& advice) {
  std::string text = advice.headline;
  for (const auto& sentence : advice.sentences) text += '\n' + sentence;
  return text;
}

/// p99 of each repeat; the ideal's is 10 ms.
void add(std::vector<RunResult>& runs, const char* policy, const std::vector<double>& p99_ms) {
  for (unsigned i = 0; i < p99_ms.size(); ++i) runs.push_back(sample_open_run(policy, i + 1, p99_ms[i], 10));
}

TEST(AdviceTest, a_policy_ahead_in_six_repeats_is_sure) {
  std::vector<RunResult> runs;
  add(runs, "reuseport", {12, 12, 13, 12, 12, 12});
  add(runs, "shared", {10, 10, 11, 10, 10, 10});
  const auto verdict = verdicts_of(runs).at(0);
  EXPECT_EQ(verdict.best, std::vector<std::string>{"shared"});
  EXPECT_EQ(verdict.next, "reuseport");
  EXPECT_EQ(verdict.certainty, Certainty::sure);
  const auto advice = advise(runs);
  EXPECT_EQ(advice.headline, "Take shared for mixed.");
  EXPECT_TRUE(has(all(advice), "sure: at 95 %, from 6 repeats")) << all(advice);
}

TEST(AdviceTest, ahead_in_each_of_a_few_repeats_is_only_likely) {
  std::vector<RunResult> runs;
  add(runs, "shared", {10, 10});
  add(runs, "reuseport", {12, 12});
  EXPECT_EQ(verdicts_of(runs).at(0).certainty, Certainty::likely);
  EXPECT_TRUE(has(all(advise(runs)), "--repeat 6")) << all(advise(runs));
}

TEST(AdviceTest, one_repeat_proves_nothing_and_says_so) {
  std::vector<RunResult> runs;
  add(runs, "shared", {10});
  add(runs, "reuseport", {12});
  EXPECT_EQ(verdicts_of(runs).at(0).certainty, Certainty::single);
  EXPECT_TRUE(has(all(advise(runs)), "one repeat proves nothing")) << all(advise(runs));
}

TEST(AdviceTest, who_is_now_ahead_and_now_behind_is_as_good) {
  std::vector<RunResult> runs;
  add(runs, "shared", {10, 12, 10, 12, 10, 12});
  add(runs, "reuseport", {11, 11, 11, 11, 11, 11});
  EXPECT_EQ(advise(runs).headline, "Take any policy for mixed.");
  add(runs, "reuseport:hash", {50, 50, 50, 50, 50, 50});
  const auto verdict = verdicts_of(runs).at(0);
  EXPECT_EQ(verdict.best.size(), 2U);
  EXPECT_EQ(verdict.next, "reuseport:hash");
  EXPECT_TRUE(has(advise(runs).headline, "shared or reuseport") || has(advise(runs).headline, "reuseport or shared"));
}

TEST(AdviceTest, scenarios_with_the_same_answer_share_a_sentence_and_others_do_not) {
  std::vector<RunResult> runs;
  add(runs, "shared", {10, 10});
  add(runs, "reuseport", {13, 13});
  for (const char* policy : {"shared", "reuseport"}) {
    for (unsigned repeat = 1; repeat <= 2; ++repeat) {
      auto run = sample_run("connect", policy, repeat, 1);
      run.throughput_per_s = std::string(policy) == "shared" ? 10'000 : 15'000;
      runs.push_back(run);
    }
  }
  const auto advice = advise(runs);
  EXPECT_EQ(advice.headline, "Take shared for mixed; reuseport for connect.");
  EXPECT_TRUE(has(all(advice), "15000 connections/s, 50 % more than shared")) << all(advice);
}

TEST(AdviceTest, a_ramp_is_judged_by_the_most_that_it_reached) {
  std::vector<RunResult> runs;
  for (const char* policy : {"shared", "reuseport"}) {
    auto run = sample_open_run(policy, 1, policy[0] == 's' ? 10 : 90, 10);
    run.throughput_per_s = policy[0] == 's' ? 5'000 : 7'000;
    run.ramp.resize(1);
    runs.push_back(run);
  }
  EXPECT_EQ(advise(runs).headline, "Take reuseport for mixed.");
}

TEST(AdviceTest, who_is_far_behind_is_warned_of) {
  std::vector<RunResult> runs;
  add(runs, "shared", {10, 10});
  add(runs, "reuseport:hash", {41, 41});
  EXPECT_TRUE(has(all(advise(runs)), "Keep away from reuseport:hash for mixed (4.10 times worse)")) << all(advise(runs));
}

TEST(AdviceTest, a_policy_that_lost_connections_is_not_best) {
  std::vector<RunResult> runs;
  add(runs, "shared", {10, 10});
  add(runs, "reuseport", {12, 12});
  runs[0].lost.timeout = 1;
  EXPECT_EQ(verdicts_of(runs).at(0).best, std::vector<std::string>{"reuseport"});
}

TEST(AdviceTest, a_peer_is_never_the_advice) {
  std::vector<RunResult> runs;
  add(runs, "nginx", {8, 8});
  add(runs, "shared", {10, 10});
  EXPECT_EQ(verdicts_of(runs).at(0).best, std::vector<std::string>{"shared"});
}

TEST(AdviceTest, a_busy_machine_speaks_against_the_figures) {
  std::vector<RunResult> runs;
  add(runs, "shared", {10, 10});
  EXPECT_FALSE(has(all(advise(runs)), "quiet machine"));
  runs[1].others_cpu = 0.52;
  EXPECT_TRUE(has(all(advise(runs)), "52 % of the CPUs")) << all(advise(runs));
}

RunResult harmed(const char* policy, uint64_t reset) {
  RunResult run = sample_run("crash", policy, 1, 1);
  run.lost.reset = reset;
  run.faults.emplace();
  run.faults->done = {{"kills", 20}};
  run.faults->begun = 1000;
  run.faults->with_worker = 12;
  return run;
}

TEST(AdviceTest, harm_without_a_loss_is_told_with_what_went_with_killed_workers) {
  const auto advice = advise(std::vector{harmed("shared", 0), harmed("reuseport", 0)});
  EXPECT_EQ(advice.headline, "40 faults, no connection lost.");
  EXPECT_TRUE(has(all(advice), "crash: 40 faults, 2000 connections, none lost (24 went with killed workers")) << all(advice);
}

TEST(AdviceTest, a_loss_is_in_the_headline_and_named_by_policy_and_kind) {
  const auto advice = advise(std::vector{harmed("shared", 0), harmed("reuseport", 2)});
  EXPECT_EQ(advice.headline, "2 connections lost to 40 faults.");
  EXPECT_TRUE(has(all(advice), "reuseport lost 0 refused, 2 reset, 0 timed out")) << all(advice);
}

TEST(AdviceTest, who_answered_nothing_is_no_choice) {
  std::vector<RunResult> runs;
  add(runs, "shared", {10, 10});
  add(runs, "reuseport", {0, 0});
  for (auto& run : runs)
    if (run.policy == "reuseport") run.completed = 0;
  EXPECT_EQ(advise(runs).headline, "Take shared for mixed.");
  EXPECT_TRUE(has(all(advise(runs)), "no answer in time from reuseport")) << all(advise(runs));
  for (auto& run : runs) run.completed = 0;
  EXPECT_EQ(advise(runs).headline, "More than this machine can do.");
}

TEST(AdviceTest, keep_alive_speaks_of_requests) {
  const auto advice = advise(std::vector{sample_run("keep-alive", "shared", 1, 1)});
  EXPECT_TRUE(has(all(advice), "requests/s")) << all(advice);
  EXPECT_FALSE(has(all(advice), "connections/s")) << all(advice);
}

TEST(AdviceTest, of_nothing_measured_advises_nothing) { EXPECT_EQ(advise({}).headline, "No policy of liblb was measured."); }

}  // namespace
}  // namespace lbbench
