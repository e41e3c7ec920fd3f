// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>

#include "options.hh"
#include "result.hh"

namespace lbbench {

/// The results of one scenario as a headed table with notes, every line within kTableWidth. Where there are several
/// repeats each figure is the median over them; a ratio is taken within each repeat first.
std::string report_scenario(const Scenario& scenario, const Options& options, std::span<const RunResult> results);

}  // namespace lbbench
