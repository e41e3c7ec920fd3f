// SPDX-License-Identifier: MIT
#pragma once

namespace lbbench {

/// Lets the calling thread be punctual: timers without slack (PR_SET_TIMERSLACK), and slices of 0.1 ms, for which the
/// scheduler of Linux 6.12 and later lets it run soon after it wakes (sched_setattr(2)). Needs no privilege.
void be_prompt();

}  // namespace lbbench
