// SPDX-License-Identifier: MIT
#include "csv_report.hh"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "sample.hh"

namespace lbbench {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    EXPECT_TRUE(line.ends_with('\r')) << line;
    lines.push_back(line.substr(0, line.size() - 1));
  }
  return lines;
}

TEST(CsvReport, has_a_line_of_names_and_one_for_each_run) {
  const auto lines =
      lines_of(csv_report(std::vector{sample_open_run("shared", 1, 14, 13), sample_open_run("reuseport", 1, 15, 13)}));
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_TRUE(lines[0].starts_with("scenario,policy,effective,")) << lines[0];
  EXPECT_TRUE(lines[1].starts_with("mixed,shared,shared,")) << lines[1];
  for (const auto& line : lines) EXPECT_EQ(std::ranges::count(line, ','), std::ranges::count(lines[0], ',')) << line;
  EXPECT_NE(lines[2].find(",15,"), std::string::npos) << lines[2];
}

TEST(CsvReport, quotes_what_would_break_a_line) {
  auto run = sample_run("connect", "shared", 1, 1);
  run.fallback = "bpf: no, \"denied\"";
  EXPECT_NE(csv_report(std::vector{run}).find(R"(,"bpf: no, ""denied""",)"), std::string::npos);
}

TEST(CsvReport, what_was_not_measured_is_empty) {
  const auto lines = lines_of(csv_report(std::vector{sample_run("connect", "shared", 1, 1)}));
  EXPECT_NE(lines[1].find(",8,,1,1,"), std::string::npos) << lines[1];  // workers, no utilization, seed, repeat
}

}  // namespace
}  // namespace lbbench
