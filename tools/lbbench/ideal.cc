// SPDX-License-Identifier: MIT
#include "ideal.hh"

#include <algorithm>
#include <functional>
#include <queue>

namespace lbbench {

std::vector<uint64_t> simulate_ideal(const Trace& trace, unsigned servers) {
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> free_at_ns;
  for (unsigned i = 0; i < servers; ++i) free_at_ns.push(0);
  std::vector<uint64_t> latencies_ns;
  latencies_ns.reserve(trace.size());
  for (const auto& arrival : trace) {
    const uint64_t end_ns = std::max(arrival.at_ns, free_at_ns.top()) + arrival.service_ns;
    free_at_ns.pop();
    free_at_ns.push(end_ns);
    latencies_ns.push_back(end_ns - arrival.at_ns);
  }
  return latencies_ns;
}

}  // namespace lbbench
