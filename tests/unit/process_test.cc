// SPDX-License-Identifier: MIT
#include "sys/process.hh"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>
#include <latch>
#include <thread>

namespace lb {
namespace {

TEST(ThreadCount, thread_that_runs_counts_and_one_that_was_joined_never_does) {
  for (int i = 0; i < 2000; ++i) {
    std::latch counted(1);
    std::thread thread([&] { counted.wait(); });
    const unsigned while_it_ran = thread_count().value();
    counted.count_down();
    thread.join();
    ASSERT_EQ(while_it_ran, 2u);
    ASSERT_EQ(thread_count().value(), 1u) << "after " << i << " that did not";
  }
}

/// As in a primary that has used up its descriptors, or was put where there is no /proc.
TEST(ThreadCount, is_not_known_when_nobody_can_be_asked) {
  std::latch asked(1);
  std::thread thread([&] { asked.wait(); });
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto count = thread_count();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  asked.count_down();
  thread.join();
  ASSERT_FALSE(count);
  EXPECT_EQ(count.error().code, EMFILE);
}

}  // namespace
}  // namespace lb
