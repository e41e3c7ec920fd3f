// SPDX-License-Identifier: MIT
#include "backends/selection.hh"

#include <algorithm>

namespace lb {

lb_selector program_selector(Selector selector) noexcept {
  switch (selector) {
    case Selector::p2c:
      return LB_SELECT_P2C;
    case Selector::random:
      return LB_SELECT_RANDOM;
    case Selector::sticky:
      return LB_SELECT_STICKY;
    case Selector::cpu:
      return LB_SELECT_CPU;
    case Selector::hermes:
      return LB_SELECT_HERMES;
    default:
      return LB_SELECT_LEAST_LOADED;
  }
}

void publish_weights(lb_group& group, const Scoreboard& board) noexcept {
  uint64_t most = UINT16_MAX;
  for (uint32_t slot = 0; slot < board.slots(); ++slot) most = std::max<uint64_t>(most, board.pull(slot));
  for (uint32_t slot = 0; slot < board.slots(); ++slot)
    group.weight[slot] = static_cast<uint16_t>(std::max<uint64_t>(1, uint64_t{board.pull(slot)} * UINT16_MAX / most));
}

bool permits_stealing(Selector selector) noexcept {
  return selector != Selector::hash && selector != Selector::sticky && selector != Selector::hermes;
}

}  // namespace lb
