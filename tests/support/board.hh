// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace lb::test {

/// What the workers tell the test, in memory shared with it.
struct Board {
  static constexpr size_t kNumbers = 131072;  ///< more than a fast machine serves while a test goes through its steps
  static constexpr size_t kWorkers = 320;

  std::array<std::atomic<uint32_t>, kNumbers> served{};    ///< times that a worker answered this number
  std::array<std::atomic<uint32_t>, kWorkers> accepted{};  ///< connections that `accept` yielded, by worker id
  std::array<std::atomic<uint32_t>, kWorkers> port{};      ///< of listener.address(), by worker id
  std::array<std::atomic<uint32_t>, 12> flag{};            ///< as the test likes
  std::atomic<uint32_t> failures{0};
  std::array<char, 512> text{};  ///< the first failure, or what else a worker has to say

  /// Called by a worker: keeps the text and returns an exit code for the worker.
  int fail(const std::string& why) noexcept {
    if (failures.fetch_add(1) == 0) std::snprintf(text.data(), text.size(), "%s", why.c_str());
    return 3;
  }

  /// Numbers below `count` that were not served once.
  unsigned not_once(size_t count) const noexcept {
    unsigned wrong = 0;
    for (size_t i = 0; i < count; ++i) wrong += served[i] != 1;
    return wrong;
  }
  /// Numbers that were served more often than they had been given to connections, of which so many were started.
  unsigned served_twice(uint32_t started = kNumbers) const noexcept {
    const uint32_t at_most = (started + kNumbers - 1) / kNumbers;
    unsigned wrong = 0;
    for (const auto& times : served) wrong += times > at_most;
    return wrong;
  }
};

}  // namespace lb::test
