// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>

#include "result.hh"

namespace lbbench {

/// A line of names, then a line for each run, comma-separated as RFC 4180 has it; what was not measured is empty. Latencies in ms, CPU
/// time in us for each connection, workers' shares separated by blanks.
std::string csv_report(std::span<const RunResult> results);

}  // namespace lbbench
