// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <stdexcept>
#include <string>

namespace lbctl {

/// Exit codes.
enum Exit { kDone = 0, kRefused = 1, kWrongUse = 2, kUnreachable = 3 };

/// Why there is no good answer, and the exit code that tells it.
struct Failure : std::runtime_error {
  Failure(Exit its_code, const std::string& why) : std::runtime_error(why), code(its_code) {}
  Exit code;
};

/// A primary's admin socket.
class Primary {
 public:
  /// `path`: absolute, or "@name".
  Primary(std::string path, std::chrono::milliseconds timeout) : path_(std::move(path)), timeout_(timeout) {}

  /// Sends a request ("status") and waits for the answer, which is ok. Throws Failure.
  nlohmann::json ask(const std::string& request) const;
  /// The same, but keeps trying for `timeout` while there is nobody to ask.
  nlohmann::json ask_patiently(const std::string& request) const;

 private:
  Failure no_primary() const;
  std::string exchange(const std::string& line) const;

  std::string path_;
  std::chrono::milliseconds timeout_;
};

}  // namespace lbctl
