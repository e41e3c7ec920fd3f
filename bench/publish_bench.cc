// SPDX-License-Identifier: MIT
// Publishing load: what a worker pays to be balanced. No system call; a few nanoseconds.
#include <benchmark/benchmark.h>

#include <lb/connection.hh>

#include "wire/handoff.hh"
#include "wire/scoreboard.hh"

namespace lb {
namespace {

void publish_in_flight(benchmark::State& state) {
  auto board = Scoreboard::create(UniqueFd(), 4).value();
  auto& in_flight = atomic(board.page(1).in_flight);
  for (auto _ : state) {
    in_flight.fetch_add(1, std::memory_order_relaxed);
    LoadToken token(&in_flight);
    benchmark::DoNotOptimize(token);
  }
}
BENCHMARK(publish_in_flight);

void report_load(benchmark::State& state) {
  auto board = Scoreboard::create(UniqueFd(), 4).value();
  uint32_t load = 0;
  for (auto _ : state) atomic(board.page(1).reported).store(++load, std::memory_order_relaxed);
}
BENCHMARK(report_load);

void claim_and_free(benchmark::State& state) {
  auto board = Scoreboard::create(UniqueFd(), 4).value();
  const std::span<__u32> words = board.page(1).claims;
  for (auto _ : state) {
    Claim claim = Claim::find_free(words).value();
    benchmark::DoNotOptimize(claim.take());
    benchmark::DoNotOptimize(claim.state());
    claim.free();
  }
}
BENCHMARK(claim_and_free);

}  // namespace
}  // namespace lb
