// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace lbbench {

constexpr size_t kTableWidth = 100;
constexpr size_t kBarMin = 8;
constexpr size_t kBarMax = 24;

enum class Best { none, low, high };

struct Column {
  std::string title;
  Best best = Best::none;  ///< which value gets the mark
  unsigned drop = 0;       ///< if the table is too wide, the highest goes first; 0 stays
  bool bar = false;        ///< its values are drawn as bars too, where there is room
};

struct Cell {
  std::string text;
  std::optional<double> value{};  ///< what competes for the mark; none for a row that is only there to be compared with
};

/// Text in columns, the first left-aligned and the others right, at most kTableWidth wide whatever is put in:
/// columns are dropped, and at last lines cut. The best value of a column is marked with a `*`.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  /// In a terminal of so many columns, bars of blocks (Unicode) follow each line, if at least kBarMin fit; 0 for plain text.
  std::string to_string(size_t columns = 0) const;

 private:
  void drop_until_it_fits(std::vector<bool>& shown) const;
  size_t width_of(size_t column) const;
  std::optional<double> best_of(size_t column) const;
  void add_bars(std::vector<std::string>& lines, size_t columns) const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

/// Breaks at blanks so that no line is wider than kTableWidth; lines after the first begin with `indent`.
std::string wrap(const std::string& text, const std::string& indent);

/// A bar of blocks, in eighths of a column: `part` of `width` columns, at least the thinnest for more than nothing.
std::string bar_of(double part, size_t width);

/// Three digits or so: 0.52, 14.3, 218.
std::string in_short(double value);

}  // namespace lbbench
