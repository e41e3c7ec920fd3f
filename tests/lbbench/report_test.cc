// SPDX-License-Identifier: MIT
#include "report.hh"

#include <gtest/gtest.h>

#include <sstream>

#include "machine_load.hh"
#include "sample.hh"
#include "table.hh"

namespace lbbench {
namespace {

void expect_narrow(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), kTableWidth) << line;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// The table's line that begins with `name`.
std::string row(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + ' ')) return line;
  }
  return "";
}

TEST(Report, a_ratio_is_taken_within_each_repeat) {
  // Medians of the columns would give 20 / 11 = 1.82; the pairs give 1, 2 and 3.
  const std::vector<RunResult> runs{sample_open_run("shared", 1, 10, 10), sample_open_run("shared", 2, 20, 10),
                                    sample_open_run("shared", 3, 90, 30)};
  const std::string text = report_scenario(*find_scenario("mixed"), {}, runs);
  EXPECT_TRUE(has(row(text, "shared"), "2.00* 1.00..3.00")) << text;
}

TEST(Report, throughput_is_compared_with_the_kernels_hash) {
  auto fast = sample_run("connect", "reuseport", 1, 1);
  fast.throughput_per_s *= 1.5;
  const std::vector<RunResult> runs{fast, sample_run("connect", "reuseport:hash", 1, 1)};
  const std::string text = report_scenario(*find_scenario("connect"), {}, runs);
  EXPECT_TRUE(has(row(text, "reuseport"), "1.50*")) << text;
  EXPECT_TRUE(has(row(text, "reuseport:hash"), "1.00")) << text;
}

TEST(Report, fits_the_page_with_large_figures_and_long_names) {
  std::vector<RunResult> runs;
  for (unsigned repeat = 1; repeat <= 3; ++repeat) {
    auto run = sample_open_run("round-robin:least-loaded", repeat, 123'456.7 * repeat, 0.1);
    run.latency.p50 = run.latency.p90 = 99'999;
    run.throughput_per_s = 12'345'678;
    run.cpu = {12'345, 54'321};
    run.lost.timeout = 1'234'567;
    run.fallback =
        "a reason that is long enough to need more than one line of the page, for it says what was tried and why "
        "that could not be had here";
    runs.push_back(run);
  }
  expect_narrow(report_scenario(*find_scenario("mixed"), {}, runs));
  expect_narrow(report_scenario(*find_scenario("few"), {}, runs));
  for (auto& run : runs) run.ideal.reset();
  expect_narrow(report_scenario(*find_scenario("connect"), {}, runs));
}

TEST(Report, a_fallback_is_told_with_its_reason) {
  auto run = sample_open_run("reuseport", 1, 10, 10);
  run.effective = "round-robin:cyclic";
  run.fallback = "bpf: Operation not permitted";
  const std::string text = report_scenario(*find_scenario("mixed"), {}, std::vector{run});
  EXPECT_TRUE(has(text, "reuseport ran as round-robin:cyclic")) << text;
  EXPECT_TRUE(has(text, "Operation not permitted")) << text;
}

TEST(Report, losses_are_told_by_kind) {
  auto run = sample_open_run("shared", 1, 10, 10);
  run.lost = {.refused = 3, .reset = 2, .timeout = 1};
  const std::string text = report_scenario(*find_scenario("mixed"), {}, std::vector{run});
  EXPECT_TRUE(has(text, "lost 3 refused, 2 reset, 1 timed out")) << text;
  EXPECT_TRUE(row(text, "shared").ends_with(" 6")) << text;
}

TEST(Report, a_late_generator_is_blamed) {
  auto run = sample_open_run("shared", 1, 10, 10);
  run.generator.late_p99_ms = 42;
  const std::string text = report_scenario(*find_scenario("mixed"), {}, std::vector{run});
  EXPECT_TRUE(has(text, "the generator fell behind by 42.0 ms")) << text;
}

TEST(Report, a_generator_without_cpu_to_spare_is_blamed) {
  auto run = sample_run("connect", "shared", 1, 1);
  run.generator.cpu = 0.5;
  EXPECT_FALSE(has(report_scenario(*find_scenario("connect"), {}, std::vector{run}), "busy machine"));
  run.generator.cpu = 0.97;
  const std::string text = report_scenario(*find_scenario("connect"), {}, std::vector{run});
  EXPECT_TRUE(has(text, "the generator used 97 % of a CPU")) << text;
}

TEST(Report, a_peers_version_is_told) {
  auto run = sample_run("connect", "nginx", 1, 1);
  run.peer_version = "nginx/1.22.1";
  run.http = true;
  const std::string text = report_scenario(*find_scenario("connect"), {}, std::vector{run});
  EXPECT_TRUE(has(text, "nginx is nginx/1.22.1")) << text;
  EXPECT_TRUE(has(text, "over HTTP")) << text;
}

TEST(Report, a_generator_that_stood_still_once_is_blamed) {
  auto run = sample_open_run("shared", 1, 10, 10);
  run.generator.late_max_ms = 14.5;
  const std::string text = report_scenario(*find_scenario("mixed"), {}, std::vector{run});
  EXPECT_TRUE(has(text, "the generator stood still for 14.5 ms")) << text;
}

TEST(Report, a_service_that_took_too_long_is_blamed_on_the_machine) {
  auto run = sample_open_run("shared", 1, 10, 10);
  EXPECT_FALSE(has(report_scenario(*find_scenario("mixed"), {}, std::vector{run}), "busy machine"));
  run.service_error_us.mean = 100;
  EXPECT_TRUE(has(report_scenario(*find_scenario("mixed"), {}, std::vector{run}), "service took 100 us too long"));
}

TEST(Report, other_programs_are_blamed) {
  auto run = sample_open_run("shared", 1, 10, 10);
  run.others_cpu = 0.45;
  const std::string text = report_scenario(*find_scenario("mixed"), {}, std::vector{run});
  EXPECT_TRUE(has(text, "other programs took 45 % of the CPUs")) << text;
}

TEST(OthersPart, is_what_we_did_not_take) {
  EXPECT_DOUBLE_EQ(others_part({100, 200}, {400, 1200}, 100), 0.2);
  EXPECT_DOUBLE_EQ(others_part({100, 200}, {200, 1200}, 150), 0);  // ticks are coarse
  EXPECT_DOUBLE_EQ(others_part({}, {}, 0), 0);
}

TEST(Report, of_nothing_says_so) { EXPECT_TRUE(has(report_scenario(*find_scenario("mixed"), {}, {}), "nothing measured")); }

}  // namespace
}  // namespace lbbench
