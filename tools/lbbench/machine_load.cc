// SPDX-License-Identifier: MIT
#include "machine_load.hh"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace lbbench {

MachineLoad MachineLoad::now() {
  // "cpu  user nice system idle iowait irq softirq steal ...": see proc(5)
  std::ifstream stat("/proc/stat");
  std::string name;
  uint64_t user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
  if (!(stat >> name >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal)) return {};
  const uint64_t tick_ns = 1'000'000'000U / static_cast<uint64_t>(sysconf(_SC_CLK_TCK));
  const uint64_t busy = user + nice + system + irq + softirq + steal;
  return {busy * tick_ns, (busy + idle + iowait) * tick_ns};
}

double others_part(const MachineLoad& from, const MachineLoad& to, uint64_t own_ns) {
  if (to.total_ns <= from.total_ns || to.busy_ns <= from.busy_ns + own_ns) return 0;
  return std::min(1.0, static_cast<double>(to.busy_ns - from.busy_ns - own_ns) / static_cast<double>(to.total_ns - from.total_ns));
}

}  // namespace lbbench
