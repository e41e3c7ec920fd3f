// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "chronicle.hh"
#include "fault_plan.hh"
#include "footprint.hh"
#include "ledger.hh"
#include "options.hh"

namespace lbbench {

struct FaultServerPlan {
  std::string policy;  ///< of the start, and of the end
  unsigned workers;
  Work work;
  WorkerModel model;
  Harm harm;
  uint64_t seed;
  std::optional<unsigned> faults;  ///< end after so many
  uint64_t duration_ns;            ///< or after so long; 0: no limit
  uint32_t primary = 0;            ///< how many there were before this one
  std::string policy_now{};        ///< as that one leaves it; empty: `policy`
  unsigned workers_now = 0;        ///< the same

  /// As the arguments of a program, and back.
  std::vector<std::string> to_arguments() const;
  static FaultServerPlan from_arguments(const std::vector<std::string>& arguments);
};

/// What the primary tells of itself and of what it has done; in memory that it shares with the main process.
struct FaultServerReport {
  std::atomic<uint16_t> port;  ///< 0 until all workers listen
  std::atomic<bool> halt;      ///< set by the main process: no further faults
  std::atomic<bool> over;      ///< all faults are done, and what was stopped goes on
  std::atomic<uint32_t> faults;
  std::array<std::atomic<uint32_t>, kFaultKinds> done;            ///< by FaultKind
  std::array<std::atomic<int>, Ledger::kPrimariesMax> primaries;  ///< their pids, in their order; 0: there is none yet
  std::atomic<uint32_t> upgrades_failed;
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

}  // namespace lbbench
