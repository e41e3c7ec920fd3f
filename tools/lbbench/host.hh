// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace lbbench {

/// The machine that the figures are of.
struct Host {
  std::string kernel;   ///< "Linux 6.1.0"
  std::string machine;  ///< "x86_64"
  std::string cpu_model;
  unsigned cpus = 0;  ///< that this process may use
  double memory_gib = 0;
  std::string liblb;  ///< version

  static Host describe();
  std::string to_string() const;
};

}  // namespace lbbench
