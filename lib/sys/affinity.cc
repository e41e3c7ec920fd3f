// SPDX-License-Identifier: MIT
#include "sys/affinity.hh"

#include <sched.h>

#include <algorithm>
#include <string>

#include "sys/error.hh"

namespace lb {
namespace {

constexpr unsigned kCpusMax = 8192;  // of any kernel so far

/// Of the calling thread. The kernel refuses a set that is smaller than its own.
class CpuSet {
 public:
  static Result<CpuSet> mine() noexcept {
    CpuSet set;
    if (::sched_getaffinity(0, sizeof set.parts_, set.parts_) != 0) return last_error("sched_getaffinity");
    return set;
  }
  bool has(unsigned cpu) const noexcept { return cpu < kCpusMax && CPU_ISSET_S(cpu, sizeof parts_, parts_); }
  void add(unsigned cpu) noexcept { CPU_SET_S(cpu, sizeof parts_, parts_); }
  int count() const noexcept { return CPU_COUNT_S(sizeof parts_, parts_); }
  bool use() const noexcept { return ::sched_setaffinity(0, sizeof parts_, parts_) == 0; }

 private:
  cpu_set_t parts_[kCpusMax / CPU_SETSIZE] = {};
};

}  // namespace

Result<void> check_cpus(std::span<const unsigned> cpus) noexcept {
  if (cpus.empty()) return {};
  const auto mine = CpuSet::mine();
  if (!mine) return mine.error();
  const auto bad = std::find_if_not(cpus.begin(), cpus.end(), [&](unsigned cpu) { return mine->has(cpu); });
  if (bad == cpus.end()) return {};
  return error_naming(EINVAL, "Options::pin_cpus: CPU " + std::to_string(*bad) + " is not one that this process may use");
}

Result<void> pin_to(unsigned cpu) noexcept {
  CpuSet one;
  if (cpu >= kCpusMax) return Error{EINVAL, "sched_setaffinity"};
  one.add(cpu);
  if (!one.use()) return last_error("sched_setaffinity");
  return {};
}

std::optional<unsigned> pinned_cpu() noexcept {
  const auto mine = CpuSet::mine();
  if (!mine || mine->count() != 1) return std::nullopt;
  for (unsigned cpu = 0; cpu < kCpusMax; ++cpu)
    if (mine->has(cpu)) return cpu;
  return std::nullopt;
}

}  // namespace lb
