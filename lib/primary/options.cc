// SPDX-License-Identifier: MIT
#include "primary/options.hh"

#include <tuple>

#include "sys/affinity.hh"
#include "sys/error.hh"
#include "wire/scoreboard.hh"

namespace lb {
namespace {

using std::chrono::milliseconds;

constexpr unsigned kWorkersMax = LB_MAX_SLOTS / 2;

}  // namespace

Result<void> validate(const Options& options) noexcept {
  for (const auto& [name, value, least] :
       {std::tuple("workers", options.workers, 0U), std::tuple("workers_max", options.workers_max, 1U)})
    if (value < least || value > kWorkersMax)
      return error_naming(EINVAL, "Options::" + std::string(name) + " " + std::to_string(value) +
                                      " (allowed: " + std::to_string(least) + " to " + std::to_string(kWorkersMax) + ")");
  if (options.window < 1 || options.window > 32)
    return error_naming(EINVAL, "Options::window " + std::to_string(options.window) + " (allowed: 1 to 32)");
  if (options.max_in_flight > LB_IN_FLIGHT)
    return error_naming(EINVAL, "Options::max_in_flight " + std::to_string(options.max_in_flight) + " (allowed: 0 to 2147483647)");
  if (auto pinned = check_cpus(options.pin_cpus); !pinned) return pinned;
  if (options.queue_max < 1) return Error{EINVAL, "Options::queue_max 0 (allowed: 1 and up)"};
  if (options.shed_over < milliseconds{0}) return Error{EINVAL, "Options::shed_over is negative"};
  if (options.slow_start < milliseconds{0} || options.slow_start > std::chrono::hours{24})
    return Error{EINVAL, "Options::slow_start (allowed: 0 to 24 h)"};
  if (options.upgrade_deadline < milliseconds{1} || options.upgrade_deadline > std::chrono::hours{24})
    return Error{EINVAL, "Options::upgrade_deadline (allowed: 1 ms to 24 h)"};
  if (options.drain_deadline < milliseconds{0}) return Error{EINVAL, "Options::drain_deadline is negative"};
  return {};
}

}  // namespace lb
