// SPDX-License-Identifier: MIT
#pragma once

#include <lb/worker.hh>

#include "ledger.hh"
#include "options.hh"
#include "work.hh"

namespace lbbench {

/// A primary that has just been left without any hands that on.
void allow_descriptors();

/// What each worker under faults runs: serves, and writes down which connections its own code has, as number `first` + its id. Gives its
/// exit code:
/// 0, or the errno of what failed.
int serve_accounted(lb::Worker& worker, WorkerModel model, const Workload& workload, Ledger& ledger, uint32_t first);

}  // namespace lbbench
