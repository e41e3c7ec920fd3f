// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>

#include "fault_driver.hh"
#include "ledger.hh"
#include "options.hh"
#include "result.hh"

namespace lbbench {

/// Draws from the ledger and from what the primary says what the faults have cost, and what there is to complain of.
void fill_in(RunResult& result, const Ledger& ledger, const FaultServerReport& report, double seconds);

/// The results of a scenario that does harm as a headed table with notes.
std::string report_faults(const Scenario& scenario, const Options& options, std::span<const RunResult> results);

}  // namespace lbbench
