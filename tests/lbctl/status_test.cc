// SPDX-License-Identifier: MIT
#include "status.hh"

#include <gtest/gtest.h>

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
  expect_contains(text, "       2      102 draining          1        200        0        200      3 hung\n");
  expect_contains(text, "worker 3, pid 103, online: on no endpoint");
}

TEST(StatusText, shows_age_of_the_queue_and_outcomes_that_there_were) {
  const auto text = status_text(sample());
  expect_contains(text, "queued 7, oldest 1500 ms; lost 3; retried 4");
  expect_contains(text, "queued 4096 bytes; lost 0");
  expect_contains(text, "picks by outcome: known 160, picked 40\n");
  EXPECT_EQ(text.find("stray"), std::string::npos);
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
