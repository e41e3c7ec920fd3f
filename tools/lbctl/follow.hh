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
/// `changes_hands`: in between there may be nobody at the socket, for as long as an answer may take.
void follow(const Primary& primary, const std::function<Progress(const Snapshot&)>& look, bool changes_hands = false);

/// A rolling restart to that generation.
Progress roll_progress(const Snapshot& snapshot, uint32_t generation);
/// A change of the number of workers, until those that leave are gone.
Progress scale_progress(const Snapshot& snapshot, unsigned workers);
/// An upgrade to the primary that has this pid. `follow` goes by the socket's path, so it meets the new primary at the end.
Progress upgrade_progress(const Snapshot& snapshot, int64_t pid);
/// A change of policy, of that endpoint or, if it is empty, of all.
Progress policy_progress(const Snapshot& snapshot, const std::string& endpoint);

}  // namespace lbctl
