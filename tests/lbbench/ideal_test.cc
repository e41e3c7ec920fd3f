// SPDX-License-Identifier: MIT
#include "ideal.hh"

#include <gtest/gtest.h>

#include <numeric>

namespace lbbench {
namespace {

using Latencies = std::vector<uint64_t>;

TEST(Ideal, first_come_is_first_served_by_one_server) {
  const Trace trace{{0, 10}, {1, 10}, {2, 1}};
  EXPECT_EQ(simulate_ideal(trace, {.workers = 1}), (Latencies{10, 19, 19}));
}

TEST(Ideal, a_waiting_connection_takes_the_first_server_that_is_free) {
  const Trace trace{{0, 100}, {0, 10}, {1, 5}, {50, 7}};
  EXPECT_EQ(simulate_ideal(trace, {.workers = 2}), (Latencies{100, 10, 14, 7}));
}

TEST(Ideal, nobody_waits_while_a_server_is_idle) {
  const Trace trace{{5, 100}, {5, 100}, {5, 100}};
  EXPECT_EQ(simulate_ideal(trace, {.workers = 3}), (Latencies{100, 100, 100}));
}

TEST(Ideal, a_slow_worker_is_taken_only_when_no_fast_one_is_idle) {
  const Trace trace{{0, 10}, {1, 10}, {2, 10}, {50, 10}};
  EXPECT_EQ(simulate_ideal(trace, {.workers = 2, .slow = 1, .slowdown = 2}), (Latencies{10, 20, 18, 10}));
}

TEST(Ideal, a_stopped_worker_takes_nothing_meanwhile) {
  const Trace trace{{0, 10}, {0, 10}, {20, 10}, {20, 10}, {40, 10}, {40, 10}};
  EXPECT_EQ(simulate_ideal(trace, {.workers = 2, .hang_from_ns = 15, .hang_to_ns = 35}), (Latencies{10, 10, 10, 20, 10, 10}));
}

TEST(Ideal, mean_wait_of_one_server_with_fixed_service_is_pollaczek_khinchines) {
  const Scenario fixed{.name = "", .sentence = "", .services = {{1, Law::fixed, 1}}, .utilization = 0, .duration_s = 0};
  const double rho = 0.7;
  const Trace trace = make_trace(fixed, 1, rho, {0, 1'000'000'000'000}, 11);
  const auto latencies_ns = simulate_ideal(trace, {.workers = 1});
  const double mean_ms =
      std::accumulate(latencies_ns.begin(), latencies_ns.end(), 0.0) / 1e6 / static_cast<double>(latencies_ns.size());
  EXPECT_NEAR(mean_ms, 1 + rho / (2 * (1 - rho)), 0.05);
}

TEST(Ideal, mean_latency_of_exponential_service_is_the_textbooks) {
  const Trace trace = make_trace(*find_scenario("exponential"), 1, 0.5, {0, 1'000'000'000'000}, 3);
  const auto latencies_ns = simulate_ideal(trace, {.workers = 1});
  const double mean_ms =
      std::accumulate(latencies_ns.begin(), latencies_ns.end(), 0.0) / 1e6 / static_cast<double>(latencies_ns.size());
  EXPECT_NEAR(mean_ms, 1 / (1 - 0.5), 0.05);
}

}  // namespace
}  // namespace lbbench
