// SPDX-License-Identifier: MIT
#include "sys/forked.hh"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lb {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(CloseAll, closes_runs_and_single_ones_and_nothing_between_them) {
  constexpr int kFirst = 200;
  for (int fd = kFirst; fd < kFirst + 10; ++fd) ASSERT_EQ(::fcntl(0, F_DUPFD_CLOEXEC, fd), fd);
  close_all({kFirst + 9, kFirst + 1, kFirst + 4, kFirst, kFirst + 2});
  for (const int fd : {0, 1, 2, 4, 9}) EXPECT_FALSE(is_open(kFirst + fd)) << fd;
  for (const int fd : {3, 5, 6, 7, 8}) EXPECT_TRUE(is_open(kFirst + fd)) << fd;
  close_all({kFirst + 3, kFirst + 5, kFirst + 6, kFirst + 7, kFirst + 8});
  for (int fd = kFirst; fd < kFirst + 10; ++fd) EXPECT_FALSE(is_open(fd)) << fd;
}

/// What `act` returns in a child.
int in_child(int (*act)()) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(act());
  int status = -1;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

TEST(ForkDepth, tells_a_child_from_its_parent_and_a_grandchild_from_both) {
  const auto depth = [] { return static_cast<int>(fork_depth()); };
  const int own = depth();
  EXPECT_EQ(in_child(depth), own + 1);
  EXPECT_EQ(in_child([] { return in_child([] { return static_cast<int>(fork_depth()); }); }), own + 2);
  EXPECT_EQ(depth(), own);
}

TEST(CloseAll, none_is_fine) { close_all({}); }

}  // namespace
}  // namespace lb
