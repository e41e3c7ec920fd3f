// SPDX-License-Identifier: MIT
#pragma once

#include "result.hh"

namespace lbbench {

inline RunResult sample_run(const char* scenario, const char* policy, unsigned repeat, double p99_ms) {
  RunResult run;
  run.scenario = scenario;
  run.policy = policy;
  run.effective = policy;
  run.rung = "eBPF, kernel backlog";
  run.workers = 8;
  run.seed = 1;
  run.repeat = repeat;
  run.offered = run.completed = 20'000;
  run.throughput_per_s = 5'743;
  run.latency = {.mean = 1, .p50 = 0.6, .p90 = 9, .p99 = p99_ms, .p99_9 = 2 * p99_ms, .max = 3 * p99_ms};
  run.histogram = Histogram(300, {15'000, 0, 5'000});
  run.share = share_of({2500, 2500, 2500, 2500, 2500, 2500, 2500, 2500});
  run.cpu = {.workers_us = 61.2, .primary_us = 3.4};
  return run;
}

inline RunResult sample_open_run(const char* policy, unsigned repeat, double p99_ms, double ideal_p99_ms) {
  RunResult run = sample_run("mixed", policy, repeat, p99_ms);
  run.utilization = 0.7;
  run.ideal = Latency{.mean = 1, .p50 = 0.5, .p90 = 8, .p99 = ideal_p99_ms, .p99_9 = 12, .max = 15};
  return run;
}

}  // namespace lbbench
