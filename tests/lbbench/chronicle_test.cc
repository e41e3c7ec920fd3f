// SPDX-License-Identifier: MIT
#include "chronicle.hh"

#include <gtest/gtest.h>

#include <memory>

namespace lbbench {
namespace {

constexpr uint64_t kMs = 1'000'000;

TEST(ChronicleTest, a_loss_is_told_with_who_had_it_and_what_went_on_around_it) {
  const auto chronicle = std::make_unique<Chronicle>();
  chronicle->add(1'000 * kMs, "long before");
  chronicle->add(9'500 * kMs, "kill worker 4");
  chronicle->add(10'100 * kMs, "worker 4 exits");
  chronicle->add(11'000 * kMs, "long after");
  const std::string text =
      chronicle->explain({.at_ns = 10'000 * kMs, .worker = 4, .outcome = Outcome::reset, .begun_ns = 9'900 * kMs}, 2'000 * kMs);
  EXPECT_EQ(
      text,
      "reset after 8.000 s of a connection of 100.0 ms, which worker 4 had; -500.0 ms: kill worker 4; +100.0 ms: worker 4 exits");
}

TEST(ChronicleTest, the_latest_entries_are_kept) {
  const auto chronicle = std::make_unique<Chronicle>();
  for (uint32_t i = 0; i < Chronicle::kKept + 1; ++i) chronicle->add(i, std::to_string(i));
  const std::string text = chronicle->explain({.at_ns = Chronicle::kKept, .worker = 0, .outcome = Outcome::reset}, 0);
  EXPECT_TRUE(text.ends_with(": " + std::to_string(Chronicle::kKept))) << text;
  EXPECT_EQ(text.find(": 0;"), std::string::npos);
}

}  // namespace
}  // namespace lbbench
