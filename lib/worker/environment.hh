// SPDX-License-Identifier: MIT
#pragma once

namespace lb {

/// How an exec'd worker learns that it is one (Node.js: NODE_UNIQUE_ID and NODE_CHANNEL_FD).
inline constexpr const char* kWorkerIdVariable = "LB_WORKER_ID";
inline constexpr const char* kChannelVariable = "LB_CHANNEL_FD";

/// From here on is_worker() says so.
void this_process_is_a_worker() noexcept;

}  // namespace lb
