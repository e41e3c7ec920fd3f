// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <lb/result.hh>
#include <memory>
#include <string>
#include <system_error>
#include <type_traits>

namespace lb {
namespace {

constexpr Error kBusy{.code = EADDRINUSE, .op = "bind tcp://127.0.0.1:80"};

template <class F>
std::system_error thrown_by(F&& f) {
  try {
    f();
  } catch (const std::system_error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return std::system_error(0, std::generic_category());
}

TEST(Result, holds_a_value) {
  Result<int> result(7);
  EXPECT_TRUE(result.ok());
  EXPECT_TRUE(static_cast<bool>(result));
  EXPECT_EQ(*result, 7);
  EXPECT_EQ(result.value(), 7);
  EXPECT_EQ(result.error().code, 0);
  EXPECT_STREQ(result.error().op, "");
}

TEST(Result, holds_an_error_that_value_throws) {
  const Result<int> result(kBusy);
  EXPECT_FALSE(result.ok());
  EXPECT_FALSE(static_cast<bool>(result));
  EXPECT_EQ(result.error().code, EADDRINUSE);
  EXPECT_STREQ(result.error().op, kBusy.op);
  const auto error = thrown_by([&] { (void)result.value(); });
  EXPECT_EQ(error.code(), std::error_code(EADDRINUSE, std::generic_category()));
  EXPECT_NE(std::string(error.what()).find("bind tcp://127.0.0.1:80"), std::string::npos) << error.what();
}

TEST(Result, of_void_is_success_or_an_error) {
  EXPECT_TRUE(Result<void>().ok());
  EXPECT_NO_THROW(Result<void>().value());
  const Result<void> failed(kBusy);
  EXPECT_FALSE(failed);
  EXPECT_EQ(failed.error().code, EADDRINUSE);
  EXPECT_EQ(thrown_by([&] { failed.value(); }).code().value(), EADDRINUSE);
}

TEST(Result, carries_what_can_only_be_moved) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(3));
  EXPECT_EQ(**result, 3);
  const std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 3);
}

TEST(Result, arrow_reaches_the_value) {
  Result<std::string> result(std::string("four"));
  EXPECT_EQ(result->size(), 4u);
  const auto& constant = result;
  EXPECT_EQ(constant->size(), 4u);
}

TEST(Error, is_16_bytes_and_trivially_copied) {
  static_assert(sizeof(Error) <= 16);
  static_assert(std::is_trivially_copyable_v<Error>);
}

TEST(Error, message_is_the_operation_and_the_errno_text) {
  EXPECT_EQ(kBusy.message(), "bind tcp://127.0.0.1:80: Address already in use");
}

TEST(Error, throw_error_throws_its_code) {
  EXPECT_EQ(thrown_by([] { throw_error(kBusy); }).code().value(), EADDRINUSE);
}

}  // namespace
}  // namespace lb
