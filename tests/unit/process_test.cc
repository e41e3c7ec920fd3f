// SPDX-License-Identifier: MIT
#include "sys/process.hh"

#include <gtest/gtest.h>

#include <latch>
#include <thread>

namespace lb {
namespace {

TEST(ThreadCount, thread_that_runs_counts_and_one_that_was_joined_never_does) {
  for (int i = 0; i < 2000; ++i) {
    std::latch counted(1);
    std::thread thread([&] { counted.wait(); });
    const unsigned while_it_ran = thread_count();
    counted.count_down();
    thread.join();
    ASSERT_EQ(while_it_ran, 2u);
    ASSERT_EQ(thread_count(), 1u) << "after " << i << " that did not";
  }
}

}  // namespace
}  // namespace lb
