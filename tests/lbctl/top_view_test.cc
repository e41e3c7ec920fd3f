// SPDX-License-Identifier: MIT
#include "top_view.hh"

#include <gtest/gtest.h>

#include "snapshot_of.hh"

namespace lbctl {
namespace {

/// The sample two seconds later: worker 1 has taken 300 connections more, worker 2 has taken 100.
Snapshot later() {
  auto snapshot = sample();
  snapshot.primary.now_ms += 2000;
  snapshot.endpoints[0].workers[0].accepted += 300;
  snapshot.endpoints[0].workers[0].picks += 310;
  snapshot.endpoints[0].workers[1].accepted += 100;
  snapshot.endpoints[1].outcomes["picked"] += 5000;
  return snapshot;
}

std::string text_of(const std::vector<Line>& lines) {
  std::string text;
  for (const auto& line : lines) text += line.text + "\n";
  return text;
}

void expect_contains(const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << text; }

TEST(Top, rates_and_shares_are_of_the_time_between_two_looks) {
  const auto text = text_of(top_lines(later(), sample(), 80));
  expect_contains(text, "  200/s  queued 7, oldest 1500 ms  lost 3");
  expect_contains(text, "       1     101 listening     150  75 %         5       2     155      1 -\n");
  expect_contains(text, "       2     102 draining       50  25 %     1+250       0       0      3 hung\n");
  expect_contains(text, "picks/s: known 0, picked 2500\n");
}

TEST(Top, first_look_and_a_primary_that_was_replaced_have_no_rates) {
  expect_contains(text_of(top_lines(sample(), sample(), 80)), "  0/s  queued 7");
  auto replaced = later();
  replaced.primary.pid = 200;
  expect_contains(text_of(top_lines(replaced, sample(), 80)), "  0/s  queued 7");
}

TEST(Top, worker_that_came_meanwhile_counts_from_nothing) {
  auto before = sample();
  before.endpoints[0].workers.pop_back();
  expect_contains(text_of(top_lines(later(), before, 80)), "       2     102 draining      150");
}

TEST(Top, no_line_is_wider_than_the_terminal) {
  for (const unsigned columns : {80u, 40u, 1u}) {
    for (const auto& line : top_lines(later(), sample(), columns)) EXPECT_LE(line.text.size(), columns);
    EXPECT_LE(top_head(sample(), 1, columns).size(), columns);
  }
  EXPECT_EQ(top_head(sample(), 1, 80).size(), 80u);
}

TEST(Top, rows_of_workers_fit_80_columns_whatever_the_figures) {
  auto now = later();
  auto& load = now.endpoints[0].workers[0];
  now.workers[0].pid = 4194304;
  now.workers[0].in_flight = 2147483647;
  load.worker = now.workers[0].id = 999999;
  load.accepted += 2000000000;
  now.workers[0].reported = 4294967295;
  now.workers[0].weight = 65535;
  load.hung = true;
  for (const auto& line : top_lines(now, sample(), 1000)) {
    if (line.look == Line::Look::alarm || line.look == Line::Look::titles) {
      EXPECT_LE(line.text.size(), 80u) << line.text;
    }
  }
}

TEST(Top, strangers_and_a_program_put_back_are_told) {
  expect_contains(text_of(top_lines(later(), sample(), 80)), "retried 4  strangers 2  put back 5\n");
}

TEST(Top, hung_workers_stand_out) {
  unsigned alarms = 0;
  for (const auto& line : top_lines(later(), sample(), 80)) alarms += line.look == Line::Look::alarm ? 1 : 0;
  EXPECT_EQ(alarms, 1u);
}

}  // namespace
}  // namespace lbctl
