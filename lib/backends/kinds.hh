// SPDX-License-Identifier: MIT
#pragma once

#include "backends/backend.hh"

namespace lb {

/// What an endpoint's kind rules out: a UNIX or inherited socket cannot be one of a SO_REUSEPORT group, so `reuseport` becomes
/// `shared`, with the reason in `request.fallback`; an error where LB_STRICT asks for it. `auto` asked for no policy by name, so it
/// is `shared` then too and never an error.
Result<void> settle_policy(ListenRequest& request, bool strict) noexcept;

}  // namespace lb
