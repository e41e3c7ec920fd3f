// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <vector>

namespace lbbench {

/// Whether two samples differ, by ranks alone: the Mann-Whitney (Wilcoxon rank-sum) test, which assumes nothing of how the figures are
/// spread. Exact, ties included, up to kExactMax values in all; with more the normal approximation with its correction for ties.
constexpr size_t kExactMax = 60;

/// The two-sided p value: how likely so great a difference is if nothing has changed. 1 where a sample is empty.
double rank_sum_p(const std::vector<double>& before, const std::vector<double>& after);

/// The least p value that samples of these sizes can have, whatever is in them.
double least_p(size_t before, size_t after);

/// How many values each sample needs for a p value of `alpha` to be possible.
size_t repeats_for(double alpha);

/// After over before, as Hodges and Lehmann estimate it: the median of the ratios of all pairs. The interval is the one that the rank-sum
/// test does not reject, at `confidence` or more; the range of all the ratios where there are too few.
struct RatioEstimate {
  double ratio = 1;
  double low = 1;
  double high = 1;
};
RatioEstimate estimate_ratio(const std::vector<double>& before, const std::vector<double>& after, double confidence);

}  // namespace lbbench
