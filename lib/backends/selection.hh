// SPDX-License-Identifier: MIT
#pragma once

#include <lb/policy.hh>

#include "lb_reuseport.h"
#include "wire/scoreboard.hh"

namespace lb {

/// What the selection program calls a selector of reuseport; all but those that need no program.
lb_selector program_selector(Selector selector) noexcept;

/// By what the program divides loads: each slot's pull, or if one of them is more than a weight can be, what it is in relation to that.
void publish_weights(lb_group& group, const Scoreboard& board) noexcept;

/// Idle workers may take what waits for busy ones without defeating the selector.
bool permits_stealing(Selector selector) noexcept;

}  // namespace lb
