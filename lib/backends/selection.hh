// SPDX-License-Identifier: MIT
#pragma once

#include <lb/policy.hh>

#include "lb_reuseport.h"

namespace lb {

/// What the selection program calls a selector of reuseport; all but those that need no program.
lb_selector program_selector(Selector selector) noexcept;

/// Idle workers may take what waits for busy ones without defeating the selector.
bool permits_stealing(Selector selector) noexcept;

}  // namespace lb
