// SPDX-License-Identifier: MIT
#include "backends/reuseport_program.hh"

namespace lb {
namespace {

const char* name_of(lb_exit exit) {
  switch (exit) {
    case LB_EXIT_PICKED:
      return "picked";
    case LB_EXIT_SINGLE:
      return "single";
    case LB_EXIT_NO_READY:
      return "no_ready";
    case LB_EXIT_SELECT_FAILED:
      return "select_failed";
    case LB_EXIT_NO_GROUP:
      return "no_group";
    case LB_EXIT_MIGRATED:
      return "migrated";
    case LB_EXIT_COOKIE:
      return "cookie";
    case LB_EXIT_STRAY:
      return "stray";
    case LB_EXIT_KNOWN:
      return "known";
    case LB_EXIT_AVOIDED:
      return "avoided";
    case LB_EXIT_MOVED:
      return "moved";
    case LB_EXIT_COUNT:
      break;
  }
  return "?";
}

}  // namespace

std::vector<PickOutcome> outcomes_of(const ReuseportProgram& program) {
  const auto counts = program.exits();
  std::vector<PickOutcome> outcomes;
  for (size_t exit = 0; exit < counts.size(); ++exit) outcomes.push_back({name_of(static_cast<lb_exit>(exit)), counts[exit]});
  return outcomes;
}

}  // namespace lb
