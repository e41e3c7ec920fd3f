// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

namespace lb {

/// The workers of a primary, as far as the one that takes over from it goes by them.
struct Staff {
  unsigned listening = 0;           ///< how many listen
  unsigned scaled_to = 0;           ///< Cluster::scale's last word; 0: there was none
  std::vector<uint16_t> weights{};  ///< Cluster::set_weight, of those that do not leave, the oldest first
};

}  // namespace lb
