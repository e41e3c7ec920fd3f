// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "chronicle.hh"
#include "fault_plan.hh"
#include "ledger.hh"
#include "options.hh"

namespace lbbench {

struct FaultServerPlan {
  std::string policy;
  unsigned workers;
  Work work;
  WorkerModel model;
  Harm harm;
  uint64_t seed;
  std::optional<unsigned> faults;  ///< end after so many
  uint64_t duration_ns;            ///< or after so long; 0: no limit
};

/// What a process takes: descriptors, and anonymous memory (RssAnon of proc(5)).
struct Footprint {
  unsigned descriptors;
  uint64_t memory_kib;

  static Footprint of_this_process();
};

/// What the primary tells of itself and of what it has done; in memory that it shares with the main process.
struct FaultServerReport {
  std::atomic<uint16_t> port;  ///< 0 until all workers listen
  std::atomic<bool> halt;      ///< set by the main process: no further faults
  std::atomic<bool> over;      ///< all faults are done, and what was stopped goes on
  std::atomic<uint32_t> faults;
  std::array<std::atomic<uint32_t>, kFaultKinds> done;  ///< by FaultKind
  std::atomic<uint32_t> rolls_failed;
  std::atomic<uint32_t> changes_failed;
  std::atomic<uint32_t> crashes;    ///< workers that ended badly, and not by our hand
  std::atomic<uint32_t> workers;    ///< that ever were
  std::atomic<uint64_t> dropped;    ///< connections that liblb says it dropped (EndpointStatus::lost)
  std::atomic<uint32_t> left_over;  ///< child processes that were still there at the end
  Footprint early;                  ///< when it all began
  Footprint middle;                 ///< when half of it was done
  Footprint late;                   ///< when all clients had gone
  std::array<char, 64> effective;
  std::array<char, 64> rung;
  std::array<char, 512> reason;
  std::array<char, 64> crash;    ///< how the first of them ended
  std::array<char, 4096> error;  ///< why it could not start, or at what it got stuck; empty: it did not
  uint64_t begun_ns;             ///< when the first fault was due
  Chronicle chronicle;
};

/// Runs a cluster, does to it what the plan says, and waits until `stop_fd` is readable or at its end before it shuts down. For a
/// process of its own, with one thread; gives its exit code.
int run_fault_server(const FaultServerPlan& plan, Ledger& ledger, FaultServerReport& report, int stop_fd);

}  // namespace lbbench
