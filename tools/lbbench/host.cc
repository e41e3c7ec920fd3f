// SPDX-License-Identifier: MIT
#include "host.hh"

#include <fmt/format.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <lb/version.hh>

namespace lbbench {
namespace {

std::string read_cpu_model() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown CPU";
}

}  // namespace

Host Host::describe() {
  Host host;
  utsname names{};
  if (uname(&names) == 0) {
    host.kernel = fmt::format("{} {}", names.sysname, names.release);
    host.machine = names.machine;
  }
  host.cpu_model = read_cpu_model();
  cpu_set_t cpus;
  host.cpus = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? static_cast<unsigned>(CPU_COUNT(&cpus)) : 1;
  host.memory_gib = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 0x1p30;
  host.liblb = LB_VERSION;
  return host;
}

std::string Host::timer_text() const {
  if (!timer) return "";
  const auto us = [](int64_t ns) { return static_cast<double>(ns) / 1e3; };
  return fmt::format("sleeps end {:.0f} us late, which is taken off; what is left: {:.0f} us median, {:.0f} us p90",
                     us(timer->median_ns), us(timer->residual_median_ns), us(timer->residual_p90_ns));
}

std::string Host::to_string() const {
  return fmt::format("liblb {} on {} {}, {} CPU{} ({}), {:.1f} GiB", liblb, kernel, machine, cpus, cpus == 1 ? "" : "s", cpu_model,
                     memory_gib);
}

}  // namespace lbbench
