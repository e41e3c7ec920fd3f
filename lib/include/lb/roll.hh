// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lb {

/// How Cluster::roll goes about it.
struct RollOptions {
  /// How many replacements may be starting at a time (1 and up). Those that they replace drain beside, and are not waited for.
  unsigned at_once = 1;
  /// How long a replacement may take until it listens on as many endpoints as its predecessor came to; then the roll stops.
  std::chrono::milliseconds ready_deadline{30'000};
  /// How long those replaced may take to finish what they hold, until SIGKILL; empty: Options::drain_deadline.
  std::optional<std::chrono::milliseconds> drain_deadline{};
  /// Each "NAME=value" is set in the environment of the replacements, over what was there, and of all that come after them.
  std::vector<std::string> env{};
};

/// The rolling restart under way, or else the last one.
struct RollStatus {
  enum class State {
    none,     ///< there was none
    running,  ///< replacements start, or those replaced still drain
    done,     ///< nobody of an older generation is left
    failed,   ///< it stopped, for `reason`; those not replaced by then go on
  };
  State state = State::none;
  uint32_t generation = 0;  ///< that of the replacements
  unsigned total = 0;       ///< how many were to be replaced
  unsigned replaced = 0;    ///< how many replacements serve instead
  unsigned starting = 0;    ///< replacements that do not listen yet
  unsigned old = 0;         ///< workers of older generations that are left
  unsigned draining = 0;    ///< of these, those that finish
  bool queued = false;      ///< another was asked for meanwhile, and begins when this one has ended
  std::string reason{};
};

}  // namespace lb
