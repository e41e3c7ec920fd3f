// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lbbench {

/// Latencies in milliseconds; all 0 when nothing was measured.
struct Latency {
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double p99_9 = 0;
  double p99_99 = 0;
  double max = 0;
};

/// How evenly the workers were used.
struct Share {
  std::vector<uint64_t> per_worker;
  double max_over_mean = 0;
  double stddev = 0;  ///< of the counts, over the workers
};

/// Nearest rank: the smallest value that at least `percent` % of the values do not exceed. 0 for none.
uint64_t percentile(std::span<const uint64_t> sorted, double percent);

/// Sorts what it is given.
Latency summarize(std::vector<uint64_t> latencies_ns);

Share share_of(std::vector<uint64_t> per_worker);

/// Mean of the middle two for an even count; 0 for none.
double median(std::vector<double> values);

}  // namespace lbbench
