// SPDX-License-Identifier: MIT
#include "metrics.hh"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "snapshot_of.hh"

namespace lbctl {
namespace {

bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

TEST(Metrics, figures_are_in_base_units_and_carry_endpoint_and_worker) {
  const auto text = metrics_text(sample());
  EXPECT_TRUE(has_line(text, R"(liblb_worker_accepted_total{endpoint="tcp://127.0.0.1:80",worker="1"} 1000)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_worker_picks_total{endpoint="tcp://127.0.0.1:80",worker="2"} 200)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_endpoint_queue_age_seconds{endpoint="tcp://127.0.0.1:80"} 1.5)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_endpoint_lost_total{endpoint="tcp://127.0.0.1:80"} 3)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_endpoint_outcomes_total{endpoint="udp://127.0.0.1:53",outcome="known"} 160)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_worker_hung{endpoint="tcp://127.0.0.1:80",worker="2"} 1)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_worker_in_flight_connections{worker="1"} 5)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_worker_weight{worker="2"} 3)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_worker_reported_connections{worker="2"} 250)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_endpoint_strangers{endpoint="tcp://127.0.0.1:80"} 2)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_endpoint_reattached_total{endpoint="tcp://127.0.0.1:80"} 5)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_endpoint_stealing{endpoint="tcp://127.0.0.1:80"} 1)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_workers{state="listening"} 1)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_workers{state="spawned"} 0)")) << text;
}

TEST(Metrics, what_waits_is_connections_on_tcp_and_bytes_on_udp) {
  const auto text = metrics_text(sample());
  EXPECT_TRUE(has_line(text, R"(liblb_endpoint_queued_connections{endpoint="tcp://127.0.0.1:80"} 7)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_endpoint_queued_bytes{endpoint="udp://127.0.0.1:53"} 4096)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_worker_backlog_connections{endpoint="tcp://127.0.0.1:80",worker="1"} 2)")) << text;
  EXPECT_TRUE(has_line(text, R"(liblb_worker_backlog_bytes{endpoint="udp://127.0.0.1:53",worker="1"} 4096)")) << text;
  EXPECT_EQ(text.find(R"(_connections{endpoint="udp)"), std::string::npos);
  EXPECT_EQ(text.find(R"(_bytes{endpoint="tcp)"), std::string::npos);
}

TEST(Metrics, quotes_and_backslashes_of_labels_are_escaped) {
  EXPECT_NE(metrics_text(sample()).find(R"(reason="io_uring_setup: \"no\\way\"")"), std::string::npos);
}

TEST(Metrics, large_counters_are_exact) {
  auto snapshot = sample();
  snapshot.endpoints[0].workers[0].accepted = 123456789012345;
  EXPECT_TRUE(
      has_line(metrics_text(snapshot), R"(liblb_worker_accepted_total{endpoint="tcp://127.0.0.1:80",worker="1"} 123456789012345)"))
      << metrics_text(snapshot);
}

TEST(Metrics, every_sample_follows_the_help_and_type_of_its_metric_and_counters_end_in_total) {
  std::istringstream lines(metrics_text(sample()));
  std::set<std::string> seen;
  std::string name;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash, what, metric, type;
    words >> hash >> what >> metric >> type;
    if (line.starts_with("# HELP ")) {
      EXPECT_TRUE(seen.insert(metric).second) << line;
      name = metric;
    } else if (line.starts_with("# TYPE ")) {
      EXPECT_EQ(metric, name);
      EXPECT_EQ(type == "counter", name.ends_with("_total")) << line;
    } else {
      EXPECT_TRUE(line.starts_with(name + "{")) << line;
    }
  }
  EXPECT_GT(seen.size(), 10u);
}

}  // namespace
}  // namespace lbctl
