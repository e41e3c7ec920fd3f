// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "document.hh"
#include "rank_test.hh"

namespace lbbench {

constexpr double kConfidence = 0.95;

enum class Change {
  none,     ///< the interval lies within the threshold, or the difference, though real, does
  better,   ///< beyond noise and beyond the threshold
  worse,    ///< likewise
  noise,    ///< nothing shown, and the interval reaches beyond the threshold
  too_few,  ///< repeats: not even the clearest difference could be shown
};
const char* to_string(Change change);

/// One figure of one policy under one scenario, in both files. Where there is an ideal, p99 is over that of the same arrivals, which takes
/// away what differs between seeds.
struct Comparison {
  std::string scenario;
  std::string policy;
  std::string figure;
  bool low_is_good = true;
  std::vector<double> before{};  ///< one value for each repeat
  std::vector<double> after{};
  RatioEstimate change{};  ///< after over before
  double p = 1;
  Change verdict = Change::none;
};

struct ComparisonReport {
  std::vector<Comparison> lines;
  std::vector<std::string> notes;  ///< what was not compared, and what to mind
  size_t repeats_needed = 0;       ///< in each file, for so many comparisons
  bool regression = false;         ///< a line is worse, or connections are lost that were not
};

/// Compares what both files have. `threshold`: a change of less than that part is none. Each figure's p value is held against a bound
/// after Holm, so that the chance of a false alarm in the whole report is at most 1 - kConfidence.
ComparisonReport compare_documents(const Document& before, const Document& after, double threshold);

std::string to_text(const ComparisonReport& report, double threshold);

}  // namespace lbbench
