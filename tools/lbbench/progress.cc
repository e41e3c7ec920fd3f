// SPDX-License-Identifier: MIT
#include "progress.hh"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace lbbench {
namespace {

constexpr size_t kBar = 30;
constexpr size_t kColumns = 80;

size_t terminal_columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kColumns;
}

}  // namespace

Progress::Progress(double total_s) : total_s_(total_s), shown_(isatty(STDERR_FILENO) == 1) {}

std::string Progress::line(double done_s, double total_s, const std::string& what, size_t columns) {
  const double part = total_s > 0 ? std::clamp(done_s / total_s, 0.0, 1.0) : 1;
  const auto full = static_cast<size_t>(part * kBar);
  auto text = fmt::format("[{:#<{}}{:-<{}}] {:.0f} s left  {}", "", full, "", kBar - full, std::max(total_s - done_s, 0.0), what);
  text.resize(std::min(text.size(), columns - 1));
  return text;
}

void Progress::show(double done_s, const std::string& what) {
  if (!shown_) return;
  fmt::print(stderr, "\r{}\x1b[K", line(done_s, total_s_, what, terminal_columns()));
  dirty_ = true;
}

void Progress::clear() {
  if (dirty_) fmt::print(stderr, "\r\x1b[K");
  dirty_ = false;
}

}  // namespace lbbench
