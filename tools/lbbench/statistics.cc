// SPDX-License-Identifier: MIT
#include "statistics.hh"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lbbench {

uint64_t percentile(std::span<const uint64_t> sorted, double percent) {
  if (sorted.empty()) return 0;
  // 99.9 is not exact in binary: without the small step back the 999th of 1000 would become the 1000th.
  const double rank = std::ceil(percent / 100 * static_cast<double>(sorted.size()) - 1e-6);
  return sorted[static_cast<size_t>(std::clamp(rank, 1.0, static_cast<double>(sorted.size()))) - 1];
}

Latency summarize(std::vector<uint64_t> latencies_ns) {
  if (latencies_ns.empty()) return {};
  std::ranges::sort(latencies_ns);
  const auto at_ms = [&](double percent) { return static_cast<double>(percentile(latencies_ns, percent)) / 1e6; };
  const double sum = std::accumulate(latencies_ns.begin(), latencies_ns.end(), 0.0);
  return {.mean = sum / static_cast<double>(latencies_ns.size()) / 1e6,
          .p50 = at_ms(50),
          .p90 = at_ms(90),
          .p99 = at_ms(99),
          .p99_9 = at_ms(99.9),
          .p99_99 = at_ms(99.99),
          .max = at_ms(100)};
}

Share share_of(std::vector<uint64_t> per_worker) {
  Share share{.per_worker = std::move(per_worker)};
  if (share.per_worker.empty()) return share;
  const double count = static_cast<double>(share.per_worker.size());
  const double mean = std::accumulate(share.per_worker.begin(), share.per_worker.end(), 0.0) / count;
  if (mean == 0) return share;
  double squares = 0;
  for (const uint64_t n : share.per_worker) squares += std::pow(static_cast<double>(n) - mean, 2);
  share.max_over_mean = static_cast<double>(std::ranges::max(share.per_worker)) / mean;
  share.stddev = std::sqrt(squares / count);
  return share;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace lbbench
