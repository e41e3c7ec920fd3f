// SPDX-License-Identifier: MIT
#include "page.hh"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "json_report.hh"
#include "sample.hh"

namespace lbbench {
namespace {

Document document_of(const std::vector<RunResult>& runs) {
  Options options;
  options.command_line = "lbbench run --policy '</script><script>alert(1)'";
  return std::get<Document>(read_document(json_report(Host::describe(), options, runs)));
}

TEST(PageData, a_curve_is_of_all_repeats_together_and_ends_where_there_are_no_more_connections) {
  std::vector<RunResult> runs{sample_open_run("shared", 1, 14, 13), sample_open_run("shared", 2, 14, 13)};
  runs[0].histogram = Histogram(320, {900});    // 1.02 ms
  runs[1].histogram = Histogram(640, {99, 1});  // 1 s
  const auto data = nlohmann::json::parse(page_data(document_of(runs)));
  const auto& curve = data["scenarios"][0]["contenders"][0]["curve"];
  EXPECT_DOUBLE_EQ(curve.back()[0].get<double>(), 3);  // 1,000 connections: 99.9 %
  EXPECT_NEAR(curve[0][1].get<double>(), 1.035, 0.01);
  for (const auto& point : curve) EXPECT_NEAR(point[1].get<double>(), point[0].get<double>() <= 1 ? 1.035 : 1060, 30) << point;
}

TEST(PageData, a_file_without_histograms_has_a_curve_through_its_percentiles) {
  auto run = sample_open_run("shared", 1, 14, 13);
  run.histogram = {};
  const auto data = nlohmann::json::parse(page_data(document_of({run})));
  const auto& curve = data["scenarios"][0]["contenders"][0]["curve"];
  ASSERT_EQ(curve.size(), 4U);
  EXPECT_DOUBLE_EQ(curve[2][0].get<double>(), 2);
  EXPECT_DOUBLE_EQ(curve[2][1].get<double>(), 14);
}

TEST(PageData, has_the_sentences_of_the_advice_and_the_notes) {
  auto run = sample_open_run("shared", 1, 14, 13);
  run.generator.late_p99_ms = 42;
  const auto data = nlohmann::json::parse(page_data(document_of({run})));
  EXPECT_EQ(data["headline"], "Take shared for mixed.");
  EXPECT_FALSE(data["advice"].empty());
  ASSERT_EQ(data["scenarios"][0]["notes"].size(), 1U);
  EXPECT_NE(data["scenarios"][0]["notes"][0].get<std::string>().find("fell behind by 42.0 ms"), std::string::npos);
}

TEST(HtmlReport, nothing_in_the_results_ends_the_script_that_holds_them) {
  if (!page_template()) GTEST_SKIP() << "built without the page";
  const auto page = html_report(document_of({sample_open_run("shared", 1, 14, 13)}));
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_NE(page.find("\\u003c/script>"), std::string::npos);
  EXPECT_EQ(page.find("/* data */"), std::string::npos);
}

TEST(HtmlReport, asks_the_network_for_nothing) {
  if (!page_template()) GTEST_SKIP() << "built without the page";
  const std::string page(*page_template());
  for (const char* part : {" src=", "<link", "@import", "url(", "fetch("}) EXPECT_EQ(page.find(part), std::string::npos) << part;
}

}  // namespace
}  // namespace lbbench
