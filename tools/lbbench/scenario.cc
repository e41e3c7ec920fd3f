// SPDX-License-Identifier: MIT
#include "scenario.hh"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <numeric>

namespace lbbench {

std::span<const Scenario> scenarios() {
  static const std::array table{
      Scenario{.name = "connect",
               .sentence = "closed loop of short, cheap connections: what does one cost?",
               .load = Load::closed,
               .services = {{1.0, Law::fixed, 0.0}},
               .bursts = false,
               .requests = 1,
               .clients_per_worker = 16,
               .utilization = 0,
               .duration_s = 3,
               .compare_s = 1.5},
      Scenario{.name = "mixed",
               .sentence = "Poisson, 95 % take 0.5 ms, 5 % take 10 ms: do short wait behind long?",
               .load = Load::open,
               .services = {{0.95, Law::fixed, 0.5}, {0.05, Law::fixed, 10.0}},
               .bursts = false,
               .requests = 1,
               .clients_per_worker = 0,
               .utilization = 0.7,
               .duration_s = 10,
               .compare_s = 4},
      Scenario{.name = "exponential",
               .sentence = "Poisson, exponential service with mean 1 ms: the textbook's M/M/k",
               .load = Load::open,
               .services = {{1.0, Law::exponential, 1.0}},
               .bursts = false,
               .requests = 1,
               .clients_per_worker = 0,
               .utilization = 0.7,
               .duration_s = 5,
               .compare_s = 0},
      Scenario{.name = "heavy-tail",
               .sentence = "Poisson, 99.9 % take 0.5 ms, 0.1 % 500 ms: who waits for the elephants?",
               .load = Load::open,
               .services = {{0.999, Law::fixed, 0.5}, {0.001, Law::fixed, 500.0}},
               .bursts = false,
               .requests = 1,
               .clients_per_worker = 0,
               .utilization = 0.7,
               .duration_s = 20,
               .compare_s = 0},
      Scenario{.name = "uneven",
               .sentence = "Poisson, 1 ms, half of the workers twice as slow: are they given less?",
               .load = Load::open,
               .services = {{1.0, Law::exponential, 1.0}},
               .bursts = false,
               .requests = 1,
               .clients_per_worker = 0,
               .utilization = 0.7,
               .duration_s = 5,
               .compare_s = 0,
               .slow_share = 0.5,
               .slowdown = 2},
      Scenario{.name = "hang",
               .sentence = "mixed, and one worker is stopped for a third of the time: who notices?",
               .load = Load::open,
               .services = {{0.95, Law::fixed, 0.5}, {0.05, Law::fixed, 10.0}},
               .bursts = false,
               .requests = 1,
               .clients_per_worker = 0,
               .utilization = 0.6,
               .duration_s = 6,
               .compare_s = 0,
               .hangs = true},
      Scenario{.name = "few",
               .sentence = "as many clients as workers, at once, 5 x 2 ms each: is a worker idle?",
               .load = Load::open,
               .services = {{1.0, Law::fixed, 10.0}},
               .bursts = true,
               .requests = 5,
               .clients_per_worker = 0,
               .utilization = 0.4,
               .duration_s = 3,
               .compare_s = 1.5},
  };
  return table;
}

double Scenario::mean_service_ms() const {
  return std::accumulate(services.begin(), services.end(), 0.0,
                         [](double sum, const Service& service) { return sum + service.share * service.mean_ms; });
}

const Scenario* find_scenario(std::string_view name) {
  const auto all = scenarios();
  const auto found = std::ranges::find(all, name, &Scenario::name);
  return found == all.end() ? nullptr : &*found;
}

std::string scenario_names() {
  std::vector<std::string_view> names;
  for (const auto& scenario : scenarios()) names.push_back(scenario.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace lbbench
