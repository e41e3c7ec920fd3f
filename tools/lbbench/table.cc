// SPDX-License-Identifier: MIT
#include "table.hh"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

namespace lbbench {
namespace {

constexpr size_t kGap = 2;  // the first of the two holds the mark of the column before

}  // namespace

std::optional<double> Table::best_of(size_t column) const {
  if (columns_[column].best == Best::none) return {};
  std::optional<double> best;
  for (const auto& row : rows_) {
    const auto value = row[column].value;
    if (!value) continue;
    if (!best || (columns_[column].best == Best::low ? *value < *best : *value > *best)) best = value;
  }
  return best;
}

size_t Table::width_of(size_t column) const {
  size_t width = columns_[column].title.size();
  for (const auto& row : rows_) width = std::max(width, row[column].text.size());
  return width;
}

void Table::drop_until_it_fits(std::vector<bool>& shown) const {
  const auto total = [&] {
    size_t width = 0;
    for (size_t i = 0; i < columns_.size(); ++i) width += shown[i] ? width_of(i) + kGap : 0;
    return width - 1;  // the last gap keeps only the mark
  };
  while (total() > kTableWidth) {
    size_t victim = columns_.size();
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (shown[i] && columns_[i].drop > 0 && (victim == columns_.size() || columns_[i].drop > columns_[victim].drop)) victim = i;
    }
    if (victim == columns_.size()) return;
    shown[victim] = false;
  }
}

void Table::add_bars(std::vector<std::string>& lines, size_t columns) const {
  const auto drawn = std::ranges::find(columns_, true, &Column::bar);
  if (drawn == columns_.end()) return;
  const auto column = static_cast<size_t>(drawn - columns_.begin());
  const size_t table = std::ranges::max(lines, {}, &std::string::size).size();
  if (columns < table + 2 + kBarMin) return;
  const size_t width = std::min(columns - table - 2, kBarMax);
  double most = 0;
  for (const auto& row : rows_) most = std::max(most, row[column].value.value_or(0));
  for (size_t r = 0; r < rows_.size() && most > 0; ++r) {
    if (!rows_[r][column].value) continue;
    lines[r + 1].resize(table + 2, ' ');
    lines[r + 1] += bar_of(*rows_[r][column].value / most, width);
  }
  lines[0].resize(table + 2, ' ');
  lines[0] += drawn->title;
}

std::string Table::to_string(size_t columns) const {
  std::vector<bool> shown(columns_.size(), true);
  drop_until_it_fits(shown);
  std::vector<std::string> lines(rows_.size() + 1);
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (!shown[i]) continue;
    const size_t width = width_of(i);
    const auto best = best_of(i);
    const auto put = [&](std::string& line, const std::string& text, const char* mark) {
      line += i == 0 ? fmt::format("{:<{}}{:<2}", text, width, mark) : fmt::format("{:>{}}{:<2}", text, width, mark);
    };
    put(lines[0], columns_[i].title, "");
    for (size_t r = 0; r < rows_.size(); ++r) put(lines[r + 1], rows_[r][i].text, best && rows_[r][i].value == best ? "*" : "");
  }
  for (auto& line : lines) line.resize(std::min(line.find_last_not_of(' ') + 1, kTableWidth));
  if (columns > 0) add_bars(lines, columns);
  std::string text;
  for (const auto& line : lines) text += line + '\n';
  return text;
}

std::string bar_of(double part, size_t width) {
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto eighths = static_cast<size_t>(std::clamp(part, 0.0, 1.0) * static_cast<double>(8 * width) + 0.5);
  const size_t at_least = part > 0 ? std::max<size_t>(eighths, 1) : 0;
  std::string bar;
  for (size_t i = 0; i < at_least / 8; ++i) bar += "█";
  return bar + kEighths[at_least % 8];
}

std::string wrap(const std::string& text, const std::string& indent) {
  std::istringstream words(text);
  std::string out;
  std::string line;
  for (std::string word; words >> word;) {
    if (!line.empty() && line.size() + 1 + word.size() > kTableWidth) {
      out += line + '\n';
      line = indent + word;
    } else {
      line += line.empty() ? word : ' ' + word;
    }
  }
  return out + line + '\n';
}

std::string in_short(double value) {
  if (value < 9.995) return fmt::format("{:.2f}", value);
  if (value < 99.95) return fmt::format("{:.1f}", value);
  return fmt::format("{:.0f}", value);
}

}  // namespace lbbench
