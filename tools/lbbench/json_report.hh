// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>

#include "host.hh"
#include "options.hh"
#include "result.hh"

namespace lbbench {

/// Every run's figures, schema 1: {"schema", "host", "results": [...]}; times in the units that the names end in.
std::string json_report(const Host& host, const Options& options, std::span<const RunResult> results);

}  // namespace lbbench
