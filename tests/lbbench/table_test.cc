// SPDX-License-Identifier: MIT
#include "table.hh"

#include <gtest/gtest.h>

namespace lbbench {
namespace {

TEST(Table, marks_the_best_of_a_column) {
  Table table({{"policy"}, {"ms", Best::low}, {"rate", Best::high}, {"n"}});
  table.add({{"ideal"}, {"1"}, {"9"}, {"0"}});
  table.add({{"a"}, {"2", 2.0}, {"7", 7.0}, {"0", 0.0}});
  table.add({{"b"}, {"3", 3.0}, {"8", 8.0}, {"0", 0.0}});
  EXPECT_EQ(table.to_string(),
            "policy  ms  rate  n\n"
            "ideal    1     9  0\n"
            "a        2*    7  0\n"
            "b        3     8* 0\n");
}

TEST(Table, drops_columns_in_their_order_until_it_fits) {
  const std::string wide(40, '9');
  Table table({{"policy"}, {"first", Best::none, 1}, {"keep"}, {"second", Best::none, 2}});
  table.add({{"a"}, {wide}, {wide}, {wide}});
  const std::string text = table.to_string();
  EXPECT_NE(text.find("first"), std::string::npos);
  EXPECT_NE(text.find("keep"), std::string::npos);
  EXPECT_EQ(text.find("second"), std::string::npos);
}

TEST(Table, is_never_too_wide) {
  Table table({{"policy"}, {"value"}});
  table.add({{std::string(90, 'p')}, {std::string(90, '9')}});
  const std::string text = table.to_string();
  for (size_t from = 0, to; (to = text.find('\n', from)) != std::string::npos; from = to + 1) EXPECT_LE(to - from, kTableWidth);
}

TEST(Wrap, breaks_at_blanks_and_indents) {
  const std::string text = wrap(std::string(60, 'a') + ' ' + std::string(60, 'b'), "  ");
  EXPECT_EQ(text, std::string(60, 'a') + "\n  " + std::string(60, 'b') + '\n');
}

TEST(InShort, keeps_three_digits) {
  EXPECT_EQ(in_short(0.524), "0.52");
  EXPECT_EQ(in_short(14.26), "14.3");
  EXPECT_EQ(in_short(217.6), "218");
  EXPECT_EQ(in_short(9.999), "10.0");
}

}  // namespace
}  // namespace lbbench
