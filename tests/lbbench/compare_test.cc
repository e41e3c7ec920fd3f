// SPDX-License-Identifier: MIT
#include "compare.hh"

#include <gtest/gtest.h>

#include <algorithm>

#include "sample.hh"

namespace lbbench {
namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// A run for each p99, the ideal's being 10 ms; each a little different, as measurements are.
Document document_of(const std::vector<double>& p99_ms, const char* policy = "shared") {
  Document document;
  for (unsigned i = 0; i < p99_ms.size(); ++i) {
    auto run = sample_open_run(policy, i + 1, p99_ms[i], 10);
    run.cpu.workers_us += 0.001 * ((i * 7) % 5);
    document.results.push_back(run);
  }
  return document;
}

const Comparison& line_of(const ComparisonReport& report, const std::string& figure) {
  return *std::ranges::find(report.lines, figure, &Comparison::figure);
}

TEST(CompareTest, a_clear_regression_is_worse_and_one) {
  const auto report =
      compare_documents(document_of({10, 10.1, 10.2, 10.3, 10.4, 10.5}), document_of({14, 14.1, 14.2, 14.3, 14.4, 14.5}), 0.05);
  EXPECT_EQ(line_of(report, "p99/ideal").verdict, Change::worse);
  EXPECT_NEAR(line_of(report, "p99/ideal").change.ratio, 1.39, 0.01);
  EXPECT_TRUE(report.regression);
}

TEST(CompareTest, the_same_the_other_way_round_is_better_and_none) {
  const auto report =
      compare_documents(document_of({14, 14.1, 14.2, 14.3, 14.4, 14.5}), document_of({10, 10.1, 10.2, 10.3, 10.4, 10.5}), 0.05);
  EXPECT_EQ(line_of(report, "p99/ideal").verdict, Change::better);
  EXPECT_FALSE(report.regression);
}

TEST(CompareTest, less_throughput_is_worse) {
  Document before;
  Document after;
  for (unsigned i = 1; i <= 6; ++i) {
    before.results.push_back(sample_run("connect", "shared", i, 1));
    after.results.push_back(sample_run("connect", "shared", i, 1));
    before.results.back().throughput_per_s = 20'000 + i;
    after.results.back().throughput_per_s = 15'000 + i;
  }
  const auto report = compare_documents(before, after, 0.05);
  EXPECT_EQ(line_of(report, "conn/s").verdict, Change::worse);
  EXPECT_TRUE(report.regression);
}

TEST(CompareTest, a_real_change_within_the_threshold_is_none) {
  const auto before = document_of({10, 10.01, 10.02, 10.03, 10.04, 10.05});
  const auto after = document_of({10.2, 10.21, 10.22, 10.23, 10.24, 10.25});
  EXPECT_EQ(line_of(compare_documents(before, after, 0.05), "p99/ideal").verdict, Change::none);
  EXPECT_EQ(line_of(compare_documents(before, after, 0.01), "p99/ideal").verdict, Change::worse);
}

TEST(CompareTest, what_noise_hides_is_said_to_be_hidden) {
  const auto report = compare_documents(document_of({10, 18, 11, 16, 12, 20}), document_of({11, 19, 12, 15, 13, 22}), 0.05);
  EXPECT_EQ(line_of(report, "p99/ideal").verdict, Change::noise);
  EXPECT_FALSE(report.regression);
}

TEST(CompareTest, too_few_repeats_cannot_tell_and_say_how_many_can) {
  const auto report = compare_documents(document_of({10, 10.1}), document_of({20, 20.1}), 0.05);
  EXPECT_EQ(line_of(report, "p99/ideal").verdict, Change::too_few);
  EXPECT_FALSE(report.regression);
  const auto text = to_text(report, 0.05);
  EXPECT_TRUE(has(text, "too few repeats (2 and 2); 2 comparisons at once need --repeat 5")) << text;
}

TEST(CompareTest, many_comparisons_ask_for_a_clearer_difference) {
  Document before;
  Document after;
  for (int policy = 0; policy < 12; ++policy) {
    const std::string name = "policy" + std::to_string(policy);
    for (const auto& run : document_of({10, 10.1, 10.2, 10.3}, name.c_str()).results) before.results.push_back(run);
    for (const auto& run : document_of({14, 14.1, 14.2, 14.3}, name.c_str()).results) after.results.push_back(run);
  }
  const auto report = compare_documents(before, after, 0.05);  // 24 comparisons; p of each is 1/35 at least
  EXPECT_FALSE(report.regression);
  EXPECT_EQ(report.lines.front().verdict, Change::too_few);
  EXPECT_EQ(report.repeats_needed, 7U);
}

TEST(CompareTest, new_losses_are_a_regression_whatever_the_figures) {
  auto after = document_of({10, 10.1});
  after.results[1].lost.reset = 3;
  const auto report = compare_documents(document_of({10, 10.1}), after, 0.05);
  EXPECT_TRUE(report.regression);
  EXPECT_TRUE(has(to_text(report, 0.05), "3 connections lost, none before"));
}

TEST(CompareTest, what_is_only_in_one_or_of_another_load_is_named_and_not_compared) {
  auto before = document_of({10, 10.1});
  auto after = document_of({10, 10.1});
  for (auto& run : after.results) run.workers = 16;
  after.results.push_back(sample_open_run("reuseport", 1, 10, 10));
  before.results.push_back(sample_open_run("round-robin", 1, 10, 10));
  const auto report = compare_documents(before, after, 0.05);
  EXPECT_TRUE(report.lines.empty());
  const auto text = to_text(report, 0.05);
  EXPECT_TRUE(has(text, "8 workers before, 16 after")) << text;
  EXPECT_TRUE(has(text, "reuseport: only after")) << text;
  EXPECT_TRUE(has(text, "round-robin: only before")) << text;
}

}  // namespace
}  // namespace lbbench
