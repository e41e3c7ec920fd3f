// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace lbbench {

/// One line on the terminal that says how far the measuring is; nothing at all where standard error is not a terminal.
class Progress {
 public:
  explicit Progress(double total_s);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done_s` of the total lie behind; `what` is being measured.
  void show(double done_s, const std::string& what);
  /// Wipes the line, so that something else can be printed.
  void clear();

  /// "[#####-----] 12 s left  mixed, reuseport", cut to `columns`.
  static std::string line(double done_s, double total_s, const std::string& what, size_t columns);

 private:
  const double total_s_;
  const bool shown_;
  bool dirty_ = false;
};

}  // namespace lbbench
