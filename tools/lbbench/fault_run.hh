// SPDX-License-Identifier: MIT
#pragma once

#include "runner.hh"

namespace lbbench {

/// As run_once, for a scenario that does harm. When it is interrupted it stops doing harm and tells what there is.
std::variant<RunResult, RunFailure, Interrupted> run_faults(const RunPlan& plan, const Tick& tick);

}  // namespace lbbench
