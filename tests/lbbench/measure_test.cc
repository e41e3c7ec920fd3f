// SPDX-License-Identifier: MIT
#include "measure.hh"

#include <gtest/gtest.h>

namespace lbbench {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kS = 1000 * kMs;

/// 1000 connections a second for ten seconds, 1 ms each, to a server that stands still from `stall_at` for `stall`;
/// the generator is held up with it, as one is that waits for the server before it begins another connection.
std::vector<Record> run_with_stall(uint64_t stall_at, uint64_t stall) {
  std::vector<Record> records(10'000);
  Recorder recorder(records);
  uint64_t clock = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    const uint64_t intended = i * kMs;
    clock = std::max(clock, intended);
    recorder.begun(i, intended, clock);
    if (clock >= stall_at && stall > 0) clock += std::exchange(stall, 0);
    clock += kMs / 2;
    recorder.answered(i, clock, 1, 0);
  }
  return records;
}

RunResult measured(std::span<const Record> records, Period period, std::span<const uint32_t> workers) {
  RunResult result;
  measure(records, period, workers, result);
  return result;
}

TEST(Measure, a_stall_of_a_second_shows_although_the_generator_stood_still_too) {
  const std::vector<uint32_t> workers{1};
  const auto result = measured(run_with_stall(5 * kS, kS), {0, 10 * kS}, workers);
  EXPECT_EQ(result.completed, 10'000U);
  EXPECT_GT(result.latency.p99, 900);  // counted from the real beginnings it would be 0.5 ms
  EXPECT_GT(result.generator.late_p99_ms, 900);
}

TEST(Measure, without_a_stall_latency_is_the_service) {
  const std::vector<uint32_t> workers{1};
  const auto result = measured(run_with_stall(5 * kS, 0), {0, 10 * kS}, workers);
  EXPECT_DOUBLE_EQ(result.latency.max, 0.5);
  EXPECT_DOUBLE_EQ(result.generator.late_max_ms, 0);
}

TEST(Measure, what_begins_in_the_warm_up_does_not_count) {
  const std::vector<uint32_t> workers{1};
  const auto result = measured(run_with_stall(0, kS), {4 * kS, 10 * kS}, workers);
  EXPECT_EQ(result.offered, 6000U);
  EXPECT_DOUBLE_EQ(result.latency.max, 0.5);
  EXPECT_NEAR(result.throughput_per_s, 1000, 1);
}

TEST(Measure, counts_each_way_to_lose_a_connection) {
  std::vector<Record> records(6);
  Recorder recorder(records);
  for (size_t i = 0; i < 5; ++i) recorder.begun(i, 0, 0);
  recorder.answered(0, kMs, 2, 0);
  recorder.lost(1, kMs, Outcome::refused);
  recorder.lost(2, kMs, Outcome::reset);
  recorder.lost(3, kMs, Outcome::timeout);
  recorder.lost(4, kMs, Outcome::not_begun);
  const std::vector<uint32_t> workers{1, 2};
  const auto result = measured(records, {0, kS}, workers);
  EXPECT_EQ(result.offered, 5U);
  EXPECT_EQ(result.completed, 1U);
  EXPECT_EQ(result.lost.refused, 1U);
  EXPECT_EQ(result.lost.reset, 1U);
  EXPECT_EQ(result.lost.timeout, 1U);
  EXPECT_EQ(result.lost.total(), 3U);
  EXPECT_EQ(result.generator.not_begun, 1U);
}

TEST(Measure, a_worker_that_served_none_is_in_the_share) {
  std::vector<Record> records(4);
  Recorder recorder(records);
  for (size_t i = 0; i < 4; ++i) {
    recorder.begun(i, 0, 0);
    recorder.answered(i, kMs, 7, 0);
  }
  const std::vector<uint32_t> workers{6, 7};
  const auto result = measured(records, {0, kS}, workers);
  EXPECT_EQ(result.share.per_worker, (std::vector<uint64_t>{0, 4}));
  EXPECT_DOUBLE_EQ(result.share.max_over_mean, 2);
}

TEST(Measure, ideal_waits_for_the_warm_up_and_does_not_count_it) {
  const Trace trace{{0, 10 * kMs}, {5 * kMs, 1 * kMs}};
  RunResult run;
  measure_ideal(trace, {1 * kMs, kS}, {.workers = 1}, run);
  EXPECT_DOUBLE_EQ(run.ideal->max, 6);
  EXPECT_DOUBLE_EQ(run.ideal->mean, 6);
  EXPECT_EQ(run.ideal_histogram.total(), 1U);
}

TEST(Measure, a_burst_on_half_the_workers_used_half) {
  std::vector<Record> records(4);
  Recorder recorder(records);
  const uint32_t served_by[] = {1, 1, 2, 2};
  for (size_t i = 0; i < 4; ++i) {
    recorder.begun(i, 0, 0);
    recorder.answered(i, kMs, served_by[i], 0);
  }
  EXPECT_DOUBLE_EQ(used_per_burst(records, {0, kS}, 4), 0.5);
}

TEST(MeasureHang, counts_what_came_late_enough_and_still_waited_for_the_stopped_worker) {
  const auto record = [](uint64_t intended_ms, uint64_t latency_ms, uint32_t worker) {
    return Record{.intended_ns = intended_ms * kMs,
                  .latency_ns = latency_ms * kMs,
                  .late_ns = 0,
                  .service_error_ns = 0,
                  .worker = worker,
                  .outcome = Outcome::answered};
  };
  // Stopped from 1000 to 3000 ms.
  const std::vector records{record(900, 1, 2),      // before
                            record(1100, 1950, 2),  // nobody can know yet
                            record(1300, 1750, 2),  // a policy should have known
                            record(2900, 101, 2),   // it may have waited for any worker until then
                            record(1300, 7, 1)};
  const auto result = measure_hang(records, {0, 4 * kS}, 2, 1000 * kMs, 3000 * kMs);
  EXPECT_EQ(result.sent_after_notice, 1u);
  EXPECT_DOUBLE_EQ(result.others.max, 7);
}

}  // namespace
}  // namespace lbbench
