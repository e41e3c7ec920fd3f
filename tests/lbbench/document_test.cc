// SPDX-License-Identifier: MIT
#include "document.hh"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "json_report.hh"
#include "sample.hh"

namespace lbbench {
namespace {

std::string refusal(std::string text) {
  const auto read = read_document(std::move(text));
  const auto* wrong = std::get_if<std::string>(&read);
  EXPECT_NE(wrong, nullptr) << "accepted";
  return wrong != nullptr ? *wrong : "";
}

TEST(DocumentTest, gives_back_what_was_written) {
  auto run = sample_open_run("reuseport", 2, 14, 13);
  run.seed = 8;
  run.fallback = "quoted \"reason\"";
  run.lost = {.refused = 1, .reset = 2, .timeout = 3};
  run.ideal_histogram = Histogram(7, {1});
  run.used_per_burst = 0.5;
  Options options;
  options.work = Work::cpu;
  options.duration_s = 2.5;
  options.seed = 7;
  options.command_line = "lbbench run";
  Host host;
  host.kernel = "Linux 6.1";
  const auto document = std::get<Document>(read_document(json_report(host, options, std::vector{run})));
  EXPECT_EQ(document.schema, kSchema);
  EXPECT_EQ(document.host.kernel, "Linux 6.1");
  EXPECT_EQ(document.command, "lbbench run");
  ASSERT_EQ(document.results.size(), 1U);
  const auto& read = document.results[0];
  EXPECT_EQ(read.policy, "reuseport");
  EXPECT_EQ(read.fallback, run.fallback);
  EXPECT_EQ(read.lost.total(), 6U);
  EXPECT_DOUBLE_EQ(read.latency.p99, 14);
  EXPECT_DOUBLE_EQ(read.ideal->p99, 13);
  EXPECT_EQ(read.histogram.counts(), run.histogram.counts());
  EXPECT_EQ(read.ideal_histogram.first(), 7U);
  EXPECT_EQ(read.share.per_worker, run.share.per_worker);
  EXPECT_DOUBLE_EQ(*read.used_per_burst, 0.5);
  EXPECT_DOUBLE_EQ(read.cpu.primary_us, run.cpu.primary_us);
  const auto again = document.options_of("mixed");
  EXPECT_EQ(again.work, Work::cpu);
  EXPECT_DOUBLE_EQ(*again.duration_s, 2.5);
  EXPECT_EQ(again.seed, 7U);
}

TEST(DocumentTest, gives_back_what_harm_cost_what_a_hang_did_and_what_the_timer_was_like) {
  auto harmed = sample_run("crash", "shared", 1, 1);
  harmed.faults.emplace();
  harmed.faults->done = {{"kills", 20}};
  harmed.faults->with_worker = 12;
  harmed.faults->trouble = {"one"};
  auto hung = sample_open_run("shared", 1, 14, 13);
  hung.scenario = "hang";
  hung.hang = HangResult{.worker = 8, .stopped_s = 2, .sent_after_notice = 5};
  hung.hang->others.p99 = 11;
  Host host;
  host.timer = TimerError{.median_ns = 30'000, .residual_median_ns = 6'000, .residual_p90_ns = 16'000};
  const auto document = std::get<Document>(read_document(json_report(host, Options{}, std::vector{harmed, hung})));
  const auto& faults = document.results[0].faults;
  ASSERT_TRUE(faults);
  EXPECT_EQ(faults->done, harmed.faults->done);
  EXPECT_EQ(faults->with_worker, 12U);
  EXPECT_EQ(faults->trouble, harmed.faults->trouble);
  const auto& hang = document.results[1].hang;
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->sent_after_notice, 5U);
  EXPECT_DOUBLE_EQ(hang->others.p99, 11);
  EXPECT_EQ(document.host.timer_text(), host.timer_text());
  EXPECT_NE(host.timer_text().find("30 us late"), std::string::npos);
}

TEST(DocumentTest, a_file_of_schema_1_is_still_read) {
  auto json = nlohmann::json::parse(json_report(Host{}, Options{}, std::vector{sample_open_run("shared", 1, 14, 13)}));
  json["schema"] = 1;
  json.erase("command");
  json.erase("summary");
  auto& run = json["results"][0];
  run.erase("latency_histogram");
  run.erase("ideal_histogram");
  run["latency_ms"].erase("p99_99");
  run["ideal_ms"].erase("p99_99");
  run["cpu_us_per_connection"].erase("generator");
  run["extra"].erase("duration_s");
  const auto document = std::get<Document>(read_document(json.dump()));
  EXPECT_EQ(document.schema, 1U);
  EXPECT_DOUBLE_EQ(document.results[0].latency.p99, 14);
  EXPECT_TRUE(document.results[0].histogram.empty());
}

TEST(DocumentTest, what_is_not_lbbenchs_is_refused_with_the_reason) {
  EXPECT_NE(refusal("{").find("is not JSON"), std::string::npos);
  EXPECT_NE(refusal("[1]").find("not what lbbench writes"), std::string::npos);
  EXPECT_NE(refusal(R"({"schema":3,"results":[]})").find("schema 3; this lbbench reads 1 to 2"), std::string::npos);
  EXPECT_NE(refusal(R"({"schema":0,"results":[]})").find("schema 0"), std::string::npos);
  EXPECT_NE(refusal(R"({"schema":1,"results":[{"scenario":"mixed"}]})").find("policy"), std::string::npos);
  EXPECT_NE(refusal(R"({"schema":1,"results":[{"scenario":7}]})").find("string"), std::string::npos);
  EXPECT_NE(std::get<std::string>(read_document_file("/nonexistent/x.json")).find("/nonexistent/x.json"), std::string::npos);
}

TEST(DocumentTest, a_histogram_with_more_buckets_than_there_are_is_refused) {
  auto json = nlohmann::json::parse(json_report(Host{}, Options{}, std::vector{sample_open_run("shared", 1, 14, 13)}));
  json["results"][0]["latency_histogram"]["first"] = 1ULL << 40;
  EXPECT_NE(refusal(json.dump()).find("too many buckets"), std::string::npos);
}

}  // namespace
}  // namespace lbbench
