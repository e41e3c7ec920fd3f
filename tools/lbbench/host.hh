// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>

#include "work.hh"

namespace lbbench {

/// The machine that the figures are of.
struct Host {
  std::string kernel;   ///< "Linux 6.1.0"
  std::string machine;  ///< "x86_64"
  std::string cpu_model;
  unsigned cpus = 0;  ///< that this process may use
  double memory_gib = 0;
  std::string liblb;  ///< version
  std::optional<TimerError>
      timer{};  ///< as measured before the runs; it says how quiet the machine was, so it is no part of its name

  static Host describe();
  std::string to_string() const;
  /// "sleeps end 30 us late, ..."; empty when it was not measured.
  std::string timer_text() const;
};

}  // namespace lbbench
