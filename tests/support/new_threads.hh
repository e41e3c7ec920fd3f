// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <set>
#include <string>

namespace lb::test {

/// The threads that this process began since this was made. Not a difference of counts: one that was joined before may be listed for
/// a moment more.
class NewThreads {
 public:
  NewThreads();
  [[nodiscard]] size_t running() const;
  /// Waits until all have ended; false when one still runs after five seconds.
  [[nodiscard]] bool wait_ended() const;

 private:
  std::set<std::string> before_;
};

}  // namespace lb::test
