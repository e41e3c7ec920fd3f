// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <span>

#include <lb/result.hh>

namespace lb {

/// EINVAL, naming it, for a CPU that this process may not use (sched_getaffinity(2)).
Result<void> check_cpus(std::span<const unsigned> cpus) noexcept;

/// From here on the calling thread, and what it forks, runs on one CPU (sched_setaffinity(2)).
Result<void> pin_to(unsigned cpu) noexcept;

/// The CPU that the calling thread is pinned to, by whomever; none if it may use several.
std::optional<unsigned> pinned_cpu() noexcept;

}  // namespace lb
