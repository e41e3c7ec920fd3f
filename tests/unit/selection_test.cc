// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include "backends/selection.hh"

namespace lb {
namespace {

TEST(Weights, are_what_workers_have_while_all_have_it_whole) {
  auto board = Scoreboard::create({}, 3).value();
  board.set_weight(1, 7);
  board.set_weight(2, UINT16_MAX);
  lb_group group{};
  publish_weights(group, board);
  EXPECT_EQ(group.weight[0], 1);
  EXPECT_EQ(group.weight[1], 7);
  EXPECT_EQ(group.weight[2], UINT16_MAX);
}

TEST(Weights, keep_their_relation_however_large_they_are_while_one_starts_slowly) {
  auto board = Scoreboard::create({}, 4).value();
  for (uint32_t slot = 0; slot < 4; ++slot) board.set_share(slot, Scoreboard::kShares);
  board.set_weight(0, 60'000);
  board.set_weight(1, 30'000);
  board.set_weight(2, 60'000);
  board.set_share(2, 1);
  lb_group group{};
  publish_weights(group, board);
  EXPECT_EQ(group.weight[0], UINT16_MAX);
  EXPECT_NEAR(group.weight[1], UINT16_MAX / 2, 1);
  EXPECT_NEAR(group.weight[2], UINT16_MAX / 16, 1);
  EXPECT_EQ(group.weight[3], 1) << "none is 0, which would count as 1";
}

}  // namespace
}  // namespace lb
