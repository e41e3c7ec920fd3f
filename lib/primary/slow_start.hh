// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "primary/listeners.hh"
#include "primary/supervisor.hh"
#include "wire/scoreboard.hh"

namespace lb {

/// The weights of newcomers, which grow (Options::slow_start). primary/slow_start.cc tells the story.
class SlowStart {
 public:
  SlowStart(const Options& options, Supervisor& supervisor, Scoreboard& scoreboard, Listeners& listeners) noexcept
      : options_(options), supervisor_(supervisor), scoreboard_(scoreboard), listeners_(listeners) {}

  /// The worker says that it listens, and nobody is sent to it yet.
  void begin(WorkerRecord& worker) noexcept;
  void advance() noexcept;
  int next_turn_ms() const noexcept;

 private:
  bool anybody_warm() const noexcept;

  const Options& options_;
  Supervisor& supervisor_;
  Scoreboard& scoreboard_;
  Listeners& listeners_;
  uint64_t due_ns_ = 0;  // when the slow starters come a step further; 0: there are none
};

}  // namespace lb
