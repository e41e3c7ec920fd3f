// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>
#include <vector>

#include "record.hh"
#include "result.hh"
#include "spread.hh"
#include "trace.hh"

namespace lbbench {

/// Whether the server has fallen behind by the end of step `index`: what still waits is more than 5 % of what the step brought, and
/// than four for each worker.
bool fell_behind(std::span<const Record> records, Period period, unsigned steps, unsigned index, unsigned workers);

/// The steps whose arrivals have all begun by `end_ns`, when the run ended. What was still unanswered then counts with the time that
/// it had waited, which is less than it would have been: left out, it would make a server that is late look prompt.
std::vector<RampStep> measure_ramp(std::span<const Record> records, const Trace& trace, const Fleet& fleet, Period period,
                                   unsigned steps, uint64_t end_ns);

/// A line for each policy: p99 by utilization, and the most that it answered in a second. Medians over the repeats.
std::string ramp_table(const Scenario& scenario, double utilization, const std::vector<PolicyRuns>& policies);

}  // namespace lbbench
