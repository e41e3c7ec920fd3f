// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lbbench {

/// Latencies counted in buckets whose bounds grow by 2^(1/32), so that each is known to 2.2 % whatever its size: bucket i holds what takes
/// from 2^(i/32) us up to 2^((i+1)/32) us; the first also what takes less.
class Histogram {
 public:
  static constexpr unsigned kPerOctave = 32;
  static constexpr size_t kBucketsMax = 64 * kPerOctave;

  Histogram() = default;
  /// `counts` are of bucket `first` and those after it.
  Histogram(size_t first, std::vector<uint64_t> counts) : first_(first), counts_(std::move(counts)) {}
  static Histogram of(std::span<const uint64_t> latencies_ns);

  /// Adds what `other` has counted.
  void merge(const Histogram& other);

  bool empty() const { return counts_.empty(); }
  uint64_t total() const;
  size_t first() const { return first_; }
  const std::vector<uint64_t>& counts() const { return counts_; }

  /// Nearest rank, as the middle of its bucket, in ms; 0 when nothing was counted.
  double percentile_ms(double percent) const;

 private:
  size_t first_ = 0;
  std::vector<uint64_t> counts_;
};

}  // namespace lbbench
