// SPDX-License-Identifier: MIT
#pragma once

#include <lb/worker.hh>

#include "ledger.hh"
#include "options.hh"
#include "work.hh"

namespace lbbench {

/// What each worker under faults runs: serves, and writes down which connections its own code has. Gives its exit code:
/// 0, or the errno of what failed.
int serve_accounted(lb::Worker& worker, WorkerModel model, const Workload& workload, Ledger& ledger);

}  // namespace lbbench
