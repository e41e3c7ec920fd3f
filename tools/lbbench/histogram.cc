// SPDX-License-Identifier: MIT
#include "histogram.hh"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lbbench {
namespace {

size_t bucket_of(uint64_t ns) {
  if (ns < 1000) return 0;
  const double octaves = std::log2(static_cast<double>(ns) / 1e3);
  return std::min(static_cast<size_t>(octaves * Histogram::kPerOctave + 1e-9), Histogram::kBucketsMax - 1);
}

}  // namespace

Histogram Histogram::of(std::span<const uint64_t> latencies_ns) {
  if (latencies_ns.empty()) return {};
  const auto [least, most] = std::ranges::minmax(latencies_ns);
  const size_t first = bucket_of(least);
  std::vector<uint64_t> counts(bucket_of(most) - first + 1);
  for (const uint64_t ns : latencies_ns) ++counts[bucket_of(ns) - first];
  return {first, std::move(counts)};
}

void Histogram::merge(const Histogram& other) {
  if (other.empty()) return;
  if (empty()) {
    *this = other;
    return;
  }
  const size_t first = std::min(first_, other.first_);
  const size_t end = std::max(first_ + counts_.size(), other.first_ + other.counts_.size());
  std::vector<uint64_t> sum(end - first);
  for (const Histogram* part : {const_cast<const Histogram*>(this), &other})
    for (size_t i = 0; i < part->counts_.size(); ++i) sum[part->first_ - first + i] += part->counts_[i];
  first_ = first;
  counts_ = std::move(sum);
}

uint64_t Histogram::total() const { return std::accumulate(counts_.begin(), counts_.end(), uint64_t{0}); }

double Histogram::percentile_ms(double percent) const {
  if (empty()) return 0;
  const double rank = std::max(1.0, std::ceil(percent / 100 * static_cast<double>(total()) - 1e-6));
  double seen = 0;
  size_t i = 0;
  while (i + 1 < counts_.size() && (seen += static_cast<double>(counts_[i])) < rank) ++i;
  return std::exp2((static_cast<double>(first_ + i) + 0.5) / kPerOctave) / 1e3;
}

}  // namespace lbbench
