// SPDX-License-Identifier: MIT
#pragma once

#include <lb/unique_fd.hh>
#include <string>
#include <variant>
#include <vector>

#include "options.hh"

namespace lbbench {

/// The files that a command is to write. They are opened before the work begins, so that a path that cannot be written costs no
/// measurement, and keep what they held until there is something to write.
class Outputs {
 public:
  /// A string says which option's file cannot be written.
  static std::variant<Outputs, std::string> open(const Options& options);

  /// One of them is standard output: what is meant for people has to go elsewhere.
  bool take_stdout() const;

  /// Writes the results, given as JSON, in every form that was asked for. Empty, or what went wrong.
  std::string write(const std::string& json);

 private:
  struct File {
    std::string option;
    std::string path;
    std::string (*form)(const std::string& json);
    lb::UniqueFd fd{};
  };
  std::vector<File> files_;
};

}  // namespace lbbench
