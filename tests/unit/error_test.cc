// SPDX-License-Identifier: MIT
#include "sys/error.hh"

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <string>

namespace lb {
namespace {

constexpr int kMany = 2000;

/// In a process of its own, whose room for texts it uses up.
void expect_in_child(const std::function<bool()>& so) { EXPECT_EXIT(std::exit(so() ? 0 : 1), testing::ExitedWithCode(0), ""); }

void use_up_texts(const std::string& word) {
  for (int i = 0; i < kMany; ++i) (void)error_naming(EINVAL, word + " " + std::to_string(i));
}

TEST(ErrorNaming, where_there_is_no_room_for_more_texts_says_at_least_what_was_tried) {
  expect_in_child([] {
    const Error early = error_naming(EADDRINUSE, "listen tcp://127.0.0.1:1");
    use_up_texts("drain");
    const std::string late = error_naming(EADDRINUSE, "listen tcp://127.0.0.1:2").op;
    return late.starts_with("listen (too many") && error_naming(EADDRINUSE, early.op).op == early.op;
  });
}

TEST(ErrorNaming, keeps_no_more_than_there_is_room_for_whatever_the_texts_begin_with) {
  expect_in_child([] {
    use_up_texts("drain");
    for (int i = 0; i < kMany; ++i) (void)error_naming(EINVAL, std::to_string(i) + " drained");
    return std::string(error_naming(EINVAL, "another text").op).starts_with("(too many");
  });
}

TEST(ErrorNaming, of_passing_errors_takes_no_room) {
  expect_in_child([] {
    {
      const PassingErrors passing;
      use_up_texts("listen");
    }
    return error_naming(EINVAL, "drain 1").op == std::string("drain 1");
  });
}

}  // namespace
}  // namespace lb
