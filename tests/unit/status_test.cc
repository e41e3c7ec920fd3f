// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <lb/status.hh>
#include <string>

namespace lb {
namespace {

Status example() {
  EndpointStatus endpoint{.asked = Endpoint::parse("tcp://127.0.0.1:0").value(),
                          .address = Endpoint::parse("tcp://127.0.0.1:8080").value(),
                          .requested = Policy::parse("reuseport:p2c").value(),
                          .effective = Policy::parse("reuseport:hash").value(),
                          .rung = "kernel hash",
                          .reason = "CAP_BPF is missing",
                          .queued = 123,
                          .queue_age_ms = 456,
                          .lost = 789,
                          .retried = 1212,
                          .bad_picks = 3434,
                          .workers = {{.worker = 31, .slot = 0, .accepted = 1717, .backlog = 2, .picks = 3}}};
  WorkerStatus worker{.id = 31, .pid = 54321, .slot = 0, .state = WorkerState::draining, .in_flight = 77, .accepted = 1717};
  return {.endpoints = {endpoint}, .workers = {worker}};
}

TEST(StatusText, begins_with_the_effective_policy_and_says_what_was_asked_for_and_why_not) {
  const auto text = example().to_string();
  const auto first_line = text.substr(0, text.find('\n'));
  EXPECT_NE(first_line.find("reuseport:hash"), std::string::npos) << text;
  for (const char* part : {"reuseport:p2c", "kernel hash", "CAP_BPF is missing", "tcp://127.0.0.1:8080"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is missing in:\n" << text;
  }
}

TEST(StatusText, shows_each_worker_and_what_was_lost) {
  const auto text = example().to_string();
  for (const char* part : {"31", "54321", "draining", "77", "1717", "123", "789", "1212", "3434"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is missing in:\n" << text;
  }
}

TEST(StatusText, of_an_empty_cluster_is_printable) { EXPECT_NO_THROW(Status{}.to_string()); }

TEST(WorkerStateName, is_the_enumerators) {
  EXPECT_STREQ(to_string(WorkerState::spawned), "spawned");
  EXPECT_STREQ(to_string(WorkerState::online), "online");
  EXPECT_STREQ(to_string(WorkerState::listening), "listening");
  EXPECT_STREQ(to_string(WorkerState::draining), "draining");
  EXPECT_STREQ(to_string(WorkerState::gone), "gone");
}

}  // namespace
}  // namespace lb
