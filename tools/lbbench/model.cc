// SPDX-License-Identifier: MIT
#include "model.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "ideal.hh"
#include "measure.hh"
#include "scenario.hh"
#include "spread.hh"
#include "trace.hh"

namespace lbbench {
namespace {

constexpr double kUsPerS = 1e6;
constexpr double kNsPerUs = 1e3;
constexpr double kArrivals = 60'000;  // in a simulation: 60 beyond p99.9

/// The scenario's mix, or what the costs alone make of a connection without a service.
double service_us_of(const Scenario& scenario) { return 1e3 * scenario.mean_service_ms(); }

/// One server, first come, first served: when each arrival leaves it.
void pass_serial(Trace& trace, double serial_us) {
  uint64_t free_ns = 0;
  for (auto& arrival : trace) {
    free_ns = std::max(free_ns, arrival.at_ns) + static_cast<uint64_t>(serial_us * kNsPerUs);
    arrival.at_ns = free_ns;
  }
}

/// Each arrival to a worker by turns of a fixed shuffle, blind to load.
std::vector<uint64_t> simulate_blind(const Trace& trace, unsigned workers, uint64_t seed) {
  std::vector<uint64_t> free_ns(workers);
  std::vector<uint64_t> latencies_ns;
  uint64_t state = seed;
  for (const auto& arrival : trace) {
    state += 0x9e3779b97f4a7c15;  // splitmix64
    uint64_t mixed = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    auto& free = free_ns[(mixed >> 33) % workers];
    free = std::max(free, arrival.at_ns) + arrival.service_ns;
    latencies_ns.push_back(free - arrival.at_ns);
  }
  return latencies_ns;
}

Scenario with_service(const Scenario& scenario, double extra_us) {
  Scenario changed = scenario;
  changed.load = Load::open;
  changed.bursts = false;
  if (scenario.mean_service_ms() <= 0) changed.services = {{1.0, Law::fixed, extra_us / 1e3}};
  return changed;
}

double median_of(const PolicyRuns& policy, double (*figure)(const RunResult&)) { return median(policy.each(figure)); }

}  // namespace

std::vector<ModelBackend> model_backends(const ModelCosts& costs, unsigned cores) {
  const double pick_us = (costs.pick_ns.value + costs.pick_slot_ns.value * cores) / kNsPerUs;
  return {
      {.policy = "shared", .serial_us = costs.queue_us.value, .parallel_us = costs.worker_us.value, .limit = "one queue"},
      {.policy = "reuseport", .parallel_us = costs.worker_us.value + pick_us, .limit = ""},
      {.policy = "reuseport:hash", .parallel_us = costs.worker_us.value, .one_queue = false, .limit = ""},
      {.policy = "round-robin", .serial_us = costs.primary_us.value, .parallel_us = costs.worker_us.value, .limit = "the primary"}};
}

double saturation_per_s(const ModelBackend& backend, unsigned cores, double service_us) {
  const double all_cores = cores * kUsPerS / (service_us + backend.parallel_us + backend.serial_us);
  return backend.serial_us > 0 ? std::min(all_cores, kUsPerS / backend.serial_us) : all_cores;
}

std::optional<Latency> predict(const ModelBackend& backend, const Scenario& scenario, unsigned workers, double rate_per_s,
                               uint64_t seed) {
  const double service_us = service_us_of(scenario);
  if (rate_per_s >= saturation_per_s(backend, workers, service_us)) return {};
  const Scenario load = with_service(scenario, backend.parallel_us);
  const double utilization = rate_per_s * load.mean_service_ms() / 1e3 / workers;
  const auto end_ns = static_cast<uint64_t>(kArrivals / rate_per_s * 1e9);
  const Period period{end_ns / 10, end_ns};
  const Trace arrivals = make_trace(load, workers, utilization, period, seed);
  Trace trace = arrivals;
  if (service_us > 0)
    for (auto& arrival : trace) arrival.service_ns += static_cast<uint64_t>(backend.parallel_us * kNsPerUs);
  pass_serial(trace, backend.serial_us);
  auto latencies_ns = backend.one_queue ? simulate_ideal(trace, {.workers = workers}) : simulate_blind(trace, workers, seed);
  std::vector<uint64_t> counted_ns;
  for (size_t i = 0; i < trace.size(); ++i)
    if (arrivals[i].at_ns >= period.warm_up_ns) counted_ns.push_back(trace[i].at_ns - arrivals[i].at_ns + latencies_ns[i]);
  return summarize(std::move(counted_ns));
}

bool in_model(const Scenario& scenario) {
  return scenario.harm == Harm::none && scenario.slow_share == 0 && !scenario.hangs && !scenario.bursts && !scenario.each_request &&
         scenario.steps == 0 && scenario.held_per_worker == 0 && scenario.flows_per_worker == 0;
}

std::vector<ModelCheck> check_model(const Document& document, const ModelCosts& costs) {
  std::vector<ModelCheck> checks;
  for (const auto& name : document.scenarios()) {
    const Scenario* scenario = find_scenario(name);
    if (scenario == nullptr || !in_model(*scenario)) continue;
    const auto results = document.results_of(name);
    for (const auto& policy : by_policy(results)) {
      const RunResult& any = *policy.runs.front();
      const auto backends = model_backends(costs, any.workers);
      const auto backend = std::ranges::find(backends, policy.policy, [](const ModelBackend& b) { return std::string(b.policy); });
      if (backend == backends.end()) continue;
      if (any.ideal && any.utilization) {
        const double rate_per_s = arrival_rate_per_s(*scenario, any.workers, *any.utilization);
        const auto predicted = predict(*backend, *scenario, any.workers, rate_per_s, any.seed);
        if (!predicted) continue;
        const auto p50 = [](const RunResult& run) { return run.latency.p50; };
        const auto p99 = [](const RunResult& run) { return run.latency.p99; };
        checks.push_back({name, policy.policy, "p50 ms", predicted->p50, median_of(policy, p50)});
        checks.push_back({name, policy.policy, "p99 ms", predicted->p99, median_of(policy, p99)});
      } else if (scenario->load == Load::closed && !any.http && document.host.cpus > 0) {
        // The clients and other programs have the same CPUs; on a larger machine they are elsewhere.
        const double clients_us = median_of(policy, [](const RunResult& run) { return run.cpu.generator_us; });
        const double free = 1 - median_of(policy, [](const RunResult& run) { return run.others_cpu; });
        if (clients_us <= 0) continue;
        checks.push_back({name, policy.policy, "conn/s", free * saturation_per_s(*backend, document.host.cpus, clients_us),
                          median_of(policy, [](const RunResult& run) { return run.throughput_per_s; })});
      }
    }
  }
  return checks;
}

}  // namespace lbbench
