// SPDX-License-Identifier: MIT
#include "rank_test.hh"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "statistics.hh"

namespace lbbench {
namespace {

struct Ranks {
  std::vector<size_t> doubled;  // of all values in order, twice the rank: that of equals is the mean of theirs, and still whole
  size_t sum_after = 0;         // doubled, of those of `after`
  double ties = 0;              // sum of t^3 - t over groups of t equals
};

Ranks rank(const std::vector<double>& before, const std::vector<double>& after) {
  std::vector<std::pair<double, bool>> all;
  for (const double value : before) all.emplace_back(value, false);
  for (const double value : after) all.emplace_back(value, true);
  std::ranges::sort(all);
  Ranks ranks;
  for (size_t from = 0, to; from < all.size(); from = to) {
    for (to = from; to < all.size() && all[to].first == all[from].first;) ++to;
    const double equals = static_cast<double>(to - from);
    ranks.ties += equals * equals * equals - equals;
    for (size_t i = from; i < to; ++i) {
      ranks.doubled.push_back(from + 1 + to);
      if (all[i].second) ranks.sum_after += from + 1 + to;
    }
  }
  return ranks;
}

/// For every sum: how many ways there are to choose `chosen` of the ranks so that they add up to it.
std::vector<double> ways_to_sum(const std::vector<size_t>& ranks, size_t chosen) {
  const size_t most = std::accumulate(ranks.begin(), ranks.end(), size_t{0});
  std::vector<std::vector<double>> ways(chosen + 1, std::vector<double>(most + 1));
  ways[0][0] = 1;
  for (const size_t rank : ranks) {
    for (size_t k = chosen; k > 0; --k)
      for (size_t sum = most; sum >= rank; --sum) ways[k][sum] += ways[k - 1][sum - rank];
  }
  return ways[chosen];
}

double exact_p(const Ranks& ranks, size_t chosen) {
  const auto ways = ways_to_sum(ranks.doubled, chosen);
  const double mean = static_cast<double>(chosen * (ranks.doubled.size() + 1));  // doubled, like the ranks
  const double far = std::abs(static_cast<double>(ranks.sum_after) - mean);
  double as_far = 0;
  double all = 0;
  for (size_t sum = 0; sum < ways.size(); ++sum) {
    all += ways[sum];
    if (std::abs(static_cast<double>(sum) - mean) >= far - 1e-9) as_far += ways[sum];
  }
  return as_far / all;
}

double normal_p(const Ranks& ranks, size_t before, size_t after) {
  const double n = static_cast<double>(before);
  const double m = static_cast<double>(after);
  const double all = n + m;
  const double variance = n * m / 12 * (all + 1 - ranks.ties / (all * (all - 1)));
  if (variance <= 0) return 1;
  const double far = std::abs(static_cast<double>(ranks.sum_after) / 2 - m * (all + 1) / 2);
  return std::erfc(std::max(0.0, far - 0.5) / std::sqrt(2 * variance));
}

}  // namespace

double rank_sum_p(const std::vector<double>& before, const std::vector<double>& after) {
  if (before.empty() || after.empty()) return 1;
  const Ranks ranks = rank(before, after);
  return before.size() + after.size() <= kExactMax ? exact_p(ranks, after.size()) : normal_p(ranks, before.size(), after.size());
}

double least_p(size_t before, size_t after) {
  if (before == 0 || after == 0) return 1;
  double ways = 1;
  for (size_t i = 1; i <= before; ++i) ways *= static_cast<double>(after + i) / static_cast<double>(i);
  return std::min(1.0, 2 / ways);
}

size_t repeats_for(double alpha) {
  size_t n = 1;
  while (least_p(n, n) > alpha) ++n;
  return n;
}

RatioEstimate estimate_ratio(const std::vector<double>& before, const std::vector<double>& after, double confidence) {
  std::vector<double> ratios;
  for (const double a : after)
    for (const double b : before)
      if (b > 0) ratios.push_back(a / b);
  if (ratios.empty()) return {};
  std::ranges::sort(ratios);
  // As many ratios are cut off at each end as the test allows: U of `after`, whose distribution without ties is that of the sums of ranks.
  const double n = static_cast<double>(before.size());
  const double m = static_cast<double>(after.size());
  size_t cut = 0;
  if (before.size() + after.size() <= kExactMax) {
    std::vector<size_t> ranks(before.size() + after.size());
    std::iota(ranks.begin(), ranks.end(), size_t{1});
    const auto ways = ways_to_sum(ranks, after.size());
    const double all = std::accumulate(ways.begin(), ways.end(), 0.0);
    const size_t least = after.size() * (after.size() + 1) / 2;
    double below = 0;
    while (2 * cut + 1 < ratios.size() && (below += ways[least + cut]) / all <= (1 - confidence) / 2) ++cut;
  } else {
    // 1.96 for 95 %: Newton's method on the error function is not worth its lines, a search by halves is.
    double low = 0;
    double high = 8;
    for (int i = 0; i < 60; ++i) (std::erfc((low + high) / 2 / std::sqrt(2)) > 1 - confidence ? low : high) = (low + high) / 2;
    cut = static_cast<size_t>(std::max(0.0, n * m / 2 - low * std::sqrt(n * m * (n + m + 1) / 12)));
  }
  const size_t from = cut > 0 ? cut - 1 : 0;  // the largest U that is rejected, and one more, counted from 1
  return {.ratio = median(ratios), .low = ratios[from], .high = ratios[ratios.size() - 1 - from]};
}

}  // namespace lbbench
