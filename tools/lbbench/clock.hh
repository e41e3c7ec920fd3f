// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <ctime>

namespace lbbench {

/// CLOCK_MONOTONIC, the same in all processes of a run.
inline uint64_t now_ns(clockid_t clock = CLOCK_MONOTONIC) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(now.tv_nsec);
}

inline timespec to_timespec(uint64_t ns) {
  return {static_cast<time_t>(ns / 1'000'000'000U), static_cast<long>(ns % 1'000'000'000U)};
}

}  // namespace lbbench
