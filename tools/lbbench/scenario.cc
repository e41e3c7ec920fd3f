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
               .pain = "the primary is the bottleneck: node#37343",
               .load = Load::closed,
               .services = {{1.0, Law::fixed, 0.0}},
               .clients_per_worker = 16,
               .utilization = 0,
               .duration_s = 3,
               .compare_s = 1.5,
               .http = true},
      Scenario{.name = "keep-alive",
               .sentence = "closed loop, 100 requests on each connection: what does a request cost?",
               .pain = "one worker takes most of the connections: gunicorn#2670, granian#544",
               .load = Load::closed,
               .services = {{1.0, Law::fixed, 0.0}},
               .requests = 100,
               .each_request = true,
               .clients_per_worker = 16,
               .utilization = 0,
               .duration_s = 3,
               .http = true},
      Scenario{.name = "mixed",
               .sentence = "Poisson, 95 % take 0.5 ms, 5 % take 10 ms: do short wait behind long?",
               .pain = "a busy worker is given more, while others are idle: puma#3961",
               .services = {{0.95, Law::fixed, 0.5}, {0.05, Law::fixed, 10.0}},
               .duration_s = 10,
               .compare_s = 4,
               .http = true},
      Scenario{.name = "exponential",
               .sentence = "Poisson, exponential service with mean 1 ms: the textbook's M/M/k",
               .pain = "everybody runs to who was least loaded a moment ago: seastar#3514, envoy#15146",
               .services = {{1.0, Law::exponential, 1.0}},
               .duration_s = 5,
               .http = true},
      Scenario{.name = "heavy-tail",
               .sentence = "Poisson, 99.9 % take 0.5 ms, 0.1 % 500 ms: who waits for the elephants?",
               .pain = "who waits for a long request, waits long: puma#2078",
               .services = {{0.999, Law::fixed, 0.5}, {0.001, Law::fixed, 500.0}},
               .duration_s = 20,
               .http = true},
      Scenario{.name = "uneven",
               .sentence = "Poisson, 1 ms, half of the workers twice as slow: are they given less?",
               .pain = "the number of connections is not the load: seastar#290, envoy#23514",
               .services = {{1.0, Law::exponential, 1.0}},
               .duration_s = 5,
               .slow_share = 0.5,
               .slowdown = 2},
      Scenario{.name = "hang",
               .sentence = "mixed, and one worker is stopped for a third of the time: who notices?",
               .pain = "a worker that is stuck is given connections as ever: puma#2078",
               .services = {{0.95, Law::fixed, 0.5}, {0.05, Law::fixed, 10.0}},
               .utilization = 0.6,
               .duration_s = 6,
               .hangs = true},
      Scenario{.name = "held",
               .sentence = "connections held open, then all ask at once: who has too many of them?",
               .pain = "long connections pile up on some workers: haproxy#684, nats#1556",
               .services = {{1.0, Law::fixed, 0.5}},
               .utilization = 0,
               .duration_s = 6,
               .held_per_worker = 50,
               .lives = {{0.5, Law::exponential, 200.0}, {0.5, Law::exponential, 2000.0}}},
      Scenario{.name = "few",
               .sentence = "as many clients as workers, at once, 5 x 2 ms each: is a worker idle?",
               .pain = "few connections leave workers idle: envoy#33707, envoy#7831",
               .services = {{1.0, Law::fixed, 10.0}},
               .bursts = true,
               .requests = 5,
               .utilization = 0.4,
               .duration_s = 3,
               .compare_s = 1.5,
               .http = true},
      Scenario{.name = "datagram",
               .sentence = "UDP, Poisson, 1 ms, flows of 32 datagrams: does one worker get them all?",
               .pain = "UDP goes to one worker: node#39428, bun#14880",
               .services = {{1.0, Law::exponential, 1.0}},
               .utilization = 0.5,
               .duration_s = 4,
               .flows_per_worker = 4},
      Scenario{.name = "ramp",
               .sentence = "mixed, its rate rises until the server falls behind: how far does it go?",
               .pain = "a queue without bounds hides how near the end is: node#40615",
               .services = {{0.95, Law::fixed, 0.5}, {0.05, Law::fixed, 10.0}},
               .utilization = 1.2,
               .duration_s = 9,
               .http = true,
               .steps = 12},
      Scenario{.name = "crash",
               .sentence = "workers killed at random moments: who else loses a connection by it?",
               .pain = "connections in flight to a worker that crashed: node#3551, bun#31829",
               .load = Load::closed,
               .services = {{1.0, Law::fixed, 0.2}},
               .clients_per_worker = 4,
               .utilization = 0,
               .duration_s = 3,
               .harm = Harm::crash,
               .faults = 20},
      Scenario{.name = "restart",
               .sentence = "rolling restarts: is anybody refused, reset or left hanging?",
               .pain = "all down at once, queues reset: harper#1417, pingora#427, pm2#2729",
               .load = Load::closed,
               .services = {{1.0, Law::fixed, 0.2}},
               .clients_per_worker = 4,
               .utilization = 0,
               .duration_s = 3,
               .harm = Harm::restart,
               .faults = 5},
      Scenario{.name = "switch",
               .sentence = "the policy changes, from each to every other: does a client notice?",
               .pain = "nobody can tell, or change, what balances: envoy#15845",
               .load = Load::closed,
               .services = {{1.0, Law::fixed, 0.2}},
               .clients_per_worker = 4,
               .utilization = 0,
               .duration_s = 4,
               .harm = Harm::change,
               .faults = 56},
      Scenario{.name = "scale-up",
               .sentence = "more workers, and fewer again: does a queue go with those that leave?",
               .pain = "no room for more workers, the newest has least: nginx#1219, nats#1556",
               .load = Load::closed,
               .services = {{1.0, Law::fixed, 0.2}},
               .clients_per_worker = 4,
               .utilization = 0,
               .duration_s = 2,
               .harm = Harm::scale,
               .faults = 10},
      Scenario{.name = "upgrade",
               .sentence = "one primary after another hands over: does a client notice?",
               .pain = "new before old stops, on one socket: systemd#8096, workerd#101",
               .load = Load::closed,
               .services = {{1.0, Law::fixed, 0.2}},
               .clients_per_worker = 4,
               .utilization = 0,
               .duration_s = 2,
               .harm = Harm::upgrade,
               .faults = 5},
      Scenario{.name = "chaos",
               .sentence = "all of these at random, and hung workers, EMFILE, rude clients",
               .pain = "EMFILE spins, accept stops, clients hang: liburing#1062, envoy#8031",
               .load = Load::closed,
               .services = {{1.0, Law::fixed, 0.2}},
               .clients_per_worker = 4,
               .utilization = 0,
               .duration_s = 30,
               .harm = Harm::chaos},
  };
  return table;
}

namespace {

double mean_ms(const std::vector<Service>& mix) {
  return std::accumulate(mix.begin(), mix.end(), 0.0,
                         [](double sum, const Service& kind) { return sum + kind.share * kind.mean_ms; });
}

}  // namespace

double Scenario::mean_service_ms() const { return mean_ms(services); }
double Scenario::mean_life_ms() const { return mean_ms(lives); }

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
