// SPDX-License-Identifier: MIT
#pragma once

#include "fault_server.hh"
#include "shared_array.hh"

namespace lbbench {

/// Runs a cluster, does to it what the plan says, and waits until `stop_fd` is readable or at its end before it shuts down. For a
/// process of its own, with one thread; gives its exit code. It may be another process by then: an upgrade executes one, which waits.
int run_fault_server(const FaultServerPlan& plan, const SharedArray<Ledger>& ledger, const SharedArray<FaultServerReport>& report,
                     int stop_fd);

/// The first argument of a primary that another has executed, which takes over from it and goes on with its plan.
constexpr const char* kNextPrimary = "--next-primary";
int run_next_fault_server(int argc, char** argv);

}  // namespace lbbench
