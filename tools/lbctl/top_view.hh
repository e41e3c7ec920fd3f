// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "snapshot.hh"

namespace lbctl {

/// A line of `lbctl top`.
struct Line {
  enum class Look { plain, head, titles, alarm };
  std::string text;
  Look look = Look::plain;
};

/// What `lbctl top` shows below its first line: endpoints and their workers, with rates since `before`, which may be the same. No line
/// is wider than `columns`.
std::vector<Line> top_lines(const Snapshot& now, const Snapshot& before, unsigned columns);

/// Its first line: who is asked, and how often.
std::string top_head(const Snapshot& now, double every_s, unsigned columns);

}  // namespace lbctl
