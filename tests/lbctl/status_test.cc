// SPDX-License-Identifier: MIT
#include "status.hh"

#include <gtest/gtest.h>

#include <sstream>

#include "snapshot_of.hh"

namespace lbctl {
namespace {

void expect_contains(const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << text; }

TEST(StatusText, says_what_was_asked_for_what_is_in_force_how_and_why) {
  expect_contains(status_text(sample()), "policy round-robin:cyclic (epoll), requested auto: io_uring_setup");
}

TEST(StatusText, shows_each_worker_of_each_endpoint_and_those_of_none) {
  const auto text = status_text(sample());
  expect_contains(text, "primary 100, liblb 0.1.0, serving, 3 workers");
  expect_contains(text, "       1      101 listening         5       1000        2       1002      1 -\n");
  expect_contains(text, "       2      102 draining      1+250        200        0        200      3 hung\n");
  expect_contains(text, "worker 3, pid 103, online: on no endpoint");
}

TEST(StatusText, shows_age_of_the_queue_and_outcomes_that_there_were) {
  const auto text = status_text(sample());
  expect_contains(text, "queued 7, oldest 1500 ms; lost 3; retried 4; strangers 2; program put back 5; idle workers steal\n");
  expect_contains(text, "queued 4096 bytes; lost 0");
  expect_contains(text, "picks by outcome: known 160, picked 40\n");
  EXPECT_EQ(text.find("stray"), std::string::npos);
}

TEST(StatusText, says_what_is_not_done_yet) {
  auto snapshot = sample();
  EXPECT_EQ(status_text(snapshot).find("upgrade"), std::string::npos);
  snapshot.scaling = "to 5 workers: fork: no memory";
  snapshot.upgrade = {"failed", 4711, "it exited with code 1"};
  expect_contains(status_text(snapshot), "\nscaling to 5 workers: fork: no memory\n");
  expect_contains(status_text(snapshot), "\nupgrade to pid 4711: failed: it exited with code 1\n");
}

TEST(StatusText, shows_how_much_of_a_newcomers_weight_counts_by_now) {
  auto answer = sample_answer();
  answer["workers"][0]["weight_percent"] = 40;
  answer["workers"][1]["weight_percent"] = 7;
  const auto text = status_text(Snapshot::parse(answer));
  expect_contains(text, "       1      101 listening         5       1000        2       1002    40% -\n");
  expect_contains(text, "   3*7% hung\n");
}

TEST(StatusText, table_fits_80_columns) {
  auto snapshot = sample();
  snapshot.workers[0].pid = 4194304;
  snapshot.endpoints[0].workers[0].accepted = snapshot.endpoints[0].workers[0].picks = 9'999'999'999;
  snapshot.endpoints[0].workers[0].hung = true;
  std::istringstream lines(status_text(snapshot));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with("hung") || line.ends_with("HUNG")) {
      EXPECT_LE(line.size(), 80u) << line;
    }
  }
}

TEST(Snapshot, what_a_primary_of_another_version_leaves_out_is_nothing_and_what_it_adds_is_ignored) {
  auto answer = sample_answer();
  answer["endpoints"][0]["workers"][1].erase("hung");
  answer["endpoints"][0].erase("outcomes");
  answer["workers"][0]["mood"] = "fine";
  const auto snapshot = Snapshot::parse(answer);
  EXPECT_FALSE(snapshot.endpoints[0].workers[1].hung);
  EXPECT_EQ(snapshot.workers[0].in_flight, 5u);
}

TEST(Snapshot, what_is_no_status_throws) {
  auto answer = sample_answer();
  answer["endpoints"][0]["workers"] = "many";
  EXPECT_THROW(Snapshot::parse(answer), nlohmann::json::exception);
  EXPECT_THROW(Snapshot::parse(nlohmann::json::object()), nlohmann::json::exception);
}

}  // namespace
}  // namespace lbctl
