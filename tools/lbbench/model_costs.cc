// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <algorithm>

#include "model.hh"
#include "spread.hh"

namespace lbbench {

// Measured for this project on 2 virtual CPUs of a Xeon under Linux 6.18: `bpf-cost` had 247, 344, 466 and 1238 ns for 2, 16, 64 and 256
// slots (least-loaded, kernel backlog, idle); `bench-micro` 2.8 us of CPU for two wake-ups by futex, the cheapest there is: the
// queue's lock is held for a wake-up.
ModelCosts ModelCosts::assumed() {
  return {.pick_ns = {"pick", 240, "ns", "bpf-cost, least-loaded, 2 virtual CPUs"},
          .pick_slot_ns = {"pick, for each slot", 3.9, "ns", "bpf-cost, from 2 to 256 slots"},
          .queue_us = {"shared queue, locked for", 1.4, "us", "bench-micro, a wake-up by futex, 2 virtual CPUs"}};
}

void ModelCosts::take(const ModelOptions& options) {
  const std::pair<ModelInput*, const std::optional<double>*> given[] = {{&worker_us, &options.worker_us},
                                                                        {&primary_us, &options.primary_us},
                                                                        {&pick_ns, &options.pick_ns},
                                                                        {&pick_slot_ns, &options.pick_slot_ns},
                                                                        {&queue_us, &options.queue_us}};
  for (const auto& [input, value] : given) {
    if (!*value) continue;
    input->value = **value;
    input->measured = false;
    input->source = "given";
  }
}

void ModelCosts::take(const Document& document, const std::string& path) {
  const auto results = document.results_of("connect");
  for (const auto& policy : by_policy(results)) {
    const auto take_one = [&](ModelInput& input, double (*of)(const RunResult&)) {
      const double value = median(policy.each(of));
      if (value <= 0) return;
      input.value = value;
      input.measured = true;
      input.source = fmt::format("{}: connect under {}, {} repeats", path, policy.policy, policy.runs.size());
    };
    if (policy.policy == "reuseport") take_one(worker_us, [](const RunResult& run) { return run.cpu.workers_us; });
    if (policy.policy == "round-robin") take_one(primary_us, [](const RunResult& run) { return run.cpu.primary_us; });
  }
}

}  // namespace lbbench
