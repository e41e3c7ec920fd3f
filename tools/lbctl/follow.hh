// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>

#include "client.hh"
#include "snapshot.hh"

namespace lbctl {

/// How far a change has come, by one look at the cluster.
struct Progress {
  enum class State { running, done, failed };
  State state = State::running;
  std::string text;  ///< for a person; of a failure: why
};

/// Looks again and again until it has come to its end; says on standard error how far it is. Throws Failure when it failed, or when the
/// primary answers no more.
void follow(const Primary& primary, const std::function<Progress(const Snapshot&)>& look);

/// A rolling restart to that generation.
Progress roll_progress(const Snapshot& snapshot, uint32_t generation);
/// A change of the number of workers. Those that leave may still drain at its end.
Progress scale_progress(const Snapshot& snapshot, unsigned workers);
/// A change of policy, of that endpoint or, if it is empty, of all.
Progress policy_progress(const Snapshot& snapshot, const std::string& endpoint);

}  // namespace lbctl
