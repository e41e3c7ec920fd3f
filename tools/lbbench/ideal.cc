// SPDX-License-Identifier: MIT
#include "ideal.hh"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>

namespace lbbench {
namespace {

/// Workers that are alike, by when they are free.
struct Alike {
  double slowdown;
  uint64_t absent_from_ns = 0;
  uint64_t absent_to_ns = 0;
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> free_at_ns{};

  /// When the first of them could begin.
  uint64_t begin_ns(uint64_t at_ns) const {
    const uint64_t begin = std::max(at_ns, free_at_ns.top());
    return begin >= absent_from_ns && begin < absent_to_ns ? absent_to_ns : begin;
  }
  uint64_t serve(const Arrival& arrival) {
    const uint64_t end_ns = begin_ns(arrival.ask_ns()) + static_cast<uint64_t>(static_cast<double>(arrival.service_ns) * slowdown);
    free_at_ns.pop();
    free_at_ns.push(end_ns);
    return end_ns;
  }
};

/// Fastest first.
std::vector<Alike> kinds_of(const Fleet& fleet) {
  std::vector<Alike> kinds;
  const unsigned hanging = fleet.hangs() ? 1 : 0;
  const auto add = [&](Alike kind, unsigned count) {
    for (unsigned i = 0; i < count; ++i) kind.free_at_ns.push(0);
    if (count > 0) kinds.push_back(std::move(kind));
  };
  add({.slowdown = 1}, fleet.workers - fleet.slow - hanging);
  add({.slowdown = 1, .absent_from_ns = fleet.hang_from_ns, .absent_to_ns = fleet.hang_to_ns}, hanging);
  add({.slowdown = fleet.slowdown}, fleet.slow);
  return kinds;
}

}  // namespace

std::vector<uint64_t> simulate_ideal(const Trace& trace, const Fleet& fleet) {
  auto kinds = kinds_of(fleet);
  std::vector<size_t> order(trace.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return trace[i].ask_ns(); });
  std::vector<uint64_t> latencies_ns(trace.size());
  for (const size_t i : order) {
    const Arrival& arrival = trace[i];
    const auto first = std::ranges::min_element(kinds, {}, [&](const Alike& kind) { return kind.begin_ns(arrival.ask_ns()); });
    latencies_ns[i] = first->serve(arrival) - arrival.ask_ns();
  }
  return latencies_ns;
}

}  // namespace lbbench
