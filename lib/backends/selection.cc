// SPDX-License-Identifier: MIT
#include "backends/selection.hh"

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

bool permits_stealing(Selector selector) noexcept {
  return selector != Selector::hash && selector != Selector::sticky && selector != Selector::hermes;
}

}  // namespace lb
