// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>

#include "fault_server.hh"
#include "ledger.hh"
#include "options.hh"
#include "result.hh"

namespace lbbench {

/// Of the primary's memory, from half-way to the end. Sanitizers keep what was freed for a while.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kGrowthMaxKib = 256 * 1024;
#else
constexpr uint64_t kGrowthMaxKib = 1024;
#endif

/// Draws from the ledger and from what the primary says what the faults have cost, and what there is to complain of.
void fill_in(RunResult& result, const Ledger& ledger, const FaultServerReport& report, double seconds);

/// The results of a scenario that does harm as a headed table with notes.
std::string report_faults(const Scenario& scenario, const Options& options, std::span<const RunResult> results);

}  // namespace lbbench
