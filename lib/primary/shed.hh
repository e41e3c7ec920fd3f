// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "primary/supervisor.hh"
#include "wire/scoreboard.hh"

namespace lb {

/// Asks workers with well more connections than the mean to close idle ones, for a while after a newcomer (Options::shed_over).
class Shed {
 public:
  Shed(const Options& options, Supervisor& supervisor, const Scoreboard& scoreboard) noexcept
      : options_(options), supervisor_(supervisor), scoreboard_(scoreboard) {}

  void begin() noexcept;
  void advance() noexcept;
  int next_turn_ms() const noexcept;

 private:
  const Options& options_;
  Supervisor& supervisor_;
  const Scoreboard& scoreboard_;
  unsigned rounds_ = 0;  // still to come
  uint64_t due_ns_ = 0;  // the next
};

}  // namespace lb
