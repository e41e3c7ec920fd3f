// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <gtest/gtest.h>

#include <lb/unique_fd.hh>
#include <type_traits>
#include <utility>

#include "sockets.hh"

namespace lb {
namespace {

using test::is_open;

int open_fd() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

TEST(UniqueFd, is_empty_by_default) {
  const UniqueFd none;
  EXPECT_FALSE(none);
  EXPECT_EQ(none.get(), -1);
}

TEST(UniqueFd, descriptor_0_counts_as_held) {
  UniqueFd zero(0);
  EXPECT_TRUE(static_cast<bool>(zero));
  EXPECT_EQ(zero.release(), 0);
}

TEST(UniqueFd, closes_when_it_goes) {
  const int fd = open_fd();
  {
    const UniqueFd owner(fd);
    EXPECT_TRUE(is_open(fd));
  }
  EXPECT_FALSE(is_open(fd));
}

TEST(UniqueFd, move_hands_over) {
  const int fd = open_fd();
  UniqueFd from(fd);
  UniqueFd to(std::move(from));
  EXPECT_FALSE(from);  // NOLINT: that is the test
  EXPECT_EQ(to.get(), fd);
  EXPECT_TRUE(is_open(fd));
}

TEST(UniqueFd, move_assignment_closes_what_was_held) {
  const int first = open_fd();
  const int second = open_fd();
  UniqueFd to(first);
  to = UniqueFd(second);
  EXPECT_FALSE(is_open(first));
  EXPECT_TRUE(is_open(second));
}

TEST(UniqueFd, self_assignment_keeps_it) {
  const int fd = open_fd();
  UniqueFd owner(fd);
  auto& same = owner;
  owner = std::move(same);
  EXPECT_EQ(owner.get(), fd);
  EXPECT_TRUE(is_open(fd));
}

TEST(UniqueFd, reset_closes_and_takes_another) {
  const int first = open_fd();
  const int second = open_fd();
  UniqueFd owner(first);
  owner.reset(second);
  EXPECT_FALSE(is_open(first));
  owner.reset();
  EXPECT_FALSE(is_open(second));
  EXPECT_FALSE(owner);
}

TEST(UniqueFd, release_leaves_it_open) {
  const int fd = open_fd();
  {
    UniqueFd owner(fd);
    EXPECT_EQ(owner.release(), fd);
  }
  EXPECT_TRUE(is_open(fd));
  ::close(fd);
}

TEST(UniqueFd, has_one_owner) {
  static_assert(!std::is_copy_constructible_v<UniqueFd>);
  static_assert(!std::is_copy_assignable_v<UniqueFd>);
  static_assert(std::is_nothrow_move_constructible_v<UniqueFd>);
  static_assert(!std::is_convertible_v<UniqueFd, int>);
  static_assert(!std::is_convertible_v<int, UniqueFd>);
}

}  // namespace
}  // namespace lb
