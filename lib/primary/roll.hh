// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <lb/cluster.hh>

#include "primary/launch.hh"

namespace lb {

/// A rolling restart: the one under way, and the next, which waits for it. primary/roll.cc tells the story.
struct Roll {
  /// A replacement that is starting.
  struct Step {
    uint32_t old = 0;  ///< whom it replaces; 0: one that has crashed
    uint32_t fresh = 0;
    Recipe recipe;  ///< of the old one, for when the replacement comes to nothing
    uint64_t deadline_ns = 0;
  };

  bool active = false;
  RollOptions options;
  std::vector<Step> steps;
  std::vector<Recipe> vacant;       ///< of old ones that crashed before their turn
  std::optional<RollOptions> next;  ///< asked for, and not begun
  RollStatus status;
};

}  // namespace lb
