// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace lbbench {

/// How busy the whole machine is, from /proc/stat: to tell the load of others from one's own.
struct MachineLoad {
  uint64_t busy_ns = 0;   ///< CPU time spent, stolen by the hypervisor included, all CPUs together; in ticks of 10 ms or so
  uint64_t total_ns = 0;  ///< the same with idle time

  /// All zeros where /proc is not to be had.
  static MachineLoad now();
};

/// Which part of all CPU time between two moments went to others, when one's own processes took `own_ns`: 0 to 1.
double others_part(const MachineLoad& from, const MachineLoad& to, uint64_t own_ns);

}  // namespace lbbench
