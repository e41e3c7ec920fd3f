// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <algorithm>

#include "model.hh"
#include "spread.hh"

namespace lbbench {

// Measured for this project on 2 virtual CPUs of a Xeon under Linux 6.18. `bpf-cost` had 297, 350, 472 and 1079 ns for 2, 16, 64 and 256
// slots that all have connections in flight (least-loaded, kernel backlog); with an idle one, 206 to 286. `accept-rate`, four times: two
// processes emptied the one queue at 1.97 to 2.25 us a connection, no faster than one (1.2 to 1.9), so that is what it is locked for.
ModelCosts ModelCosts::assumed() {
  return {.pick_ns = {"pick", 290, "ns", "bpf-cost, least-loaded, in flight, 2 virtual CPUs"},
          .pick_slot_ns = {"pick, for each slot", 3.1, "ns", "bpf-cost, from 2 to 256 slots"},
          .queue_us = {"shared queue, locked for", 2.0, "us", "accept-rate, two processes on 2 virtual CPUs"}};
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
