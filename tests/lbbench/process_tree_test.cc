// SPDX-License-Identifier: MIT
#include "process_tree.hh"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace lbbench {
namespace {

TEST(ProcessTree, has_children_and_theirs_whatever_their_names_are) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_NAME, ") Z 1 (");  // as a name may be
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      (void)!write(ready[1], &grandchild, 1);
      pause();
    }
    (void)!write(ready[1], &grandchild, sizeof grandchild);
    pause();
  }
  char bytes[1 + sizeof(pid_t)];
  for (size_t have = 0; have < sizeof bytes;) {
    const ssize_t n = read(ready[0], bytes + have, sizeof bytes - have);
    ASSERT_GT(n, 0);
    have += static_cast<size_t>(n);
  }
  const auto mine = children_of(getpid());
  EXPECT_NE(std::find(mine.begin(), mine.end(), child), mine.end());
  const auto below = children_of(child);
  EXPECT_EQ(below.size(), 1U);
  EXPECT_EQ(descendants_of(child), below);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(children_of(child).empty());
  close(ready[0]);
  close(ready[1]);
}

}  // namespace
}  // namespace lbbench
