// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>
#include <vector>

#include "options.hh"
#include "result.hh"

namespace lbbench {

/// The results of one scenario as a headed table with notes, every line within kTableWidth. Where there are several
/// repeats each figure is the median over them; a ratio is taken within each repeat first. `columns`: of a terminal that can show bars beside the table, 0 for none.
std::string report_scenario(const Scenario& scenario, const Options& options, std::span<const RunResult> results,
                            size_t columns = 0);

/// What a reader must know before trusting the figures of a policy, a sentence each; the table's lines that begin with `!`.
std::vector<std::string> notes_on_results(const Scenario& scenario, std::span<const RunResult> results);

}  // namespace lbbench
