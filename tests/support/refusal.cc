// SPDX-License-Identifier: MIT
#include "refusal.hh"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>

namespace lb::test {

Refusal ask_for(TestCluster& cluster, const std::string& endpoint, const ListenOptions& options) {
  struct Told {
    std::atomic<int> code{0};
    std::array<char, 512> text{};
  };
  const Shared<Told> told;
  const auto id = cluster->spawn([&](Worker& worker) {
    const auto listener = worker.listen(endpoint, options);
    told->code = listener.error().code;
    if (!listener) std::snprintf(told->text.data(), told->text.size(), "%s", listener.error().message().c_str());
    return 0;
  });
  EXPECT_TRUE(id && cluster.wait_exit(*id));
  return {told->code, told->text.data()};
}

std::string refusal(TestCluster& cluster, const std::string& endpoint, int code, const ListenOptions& options) {
  const auto refused = ask_for(cluster, endpoint, options);
  EXPECT_EQ(refused.code, code) << refused.message;
  expect_contains(refused.message, endpoint);
  return refused.message;
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << '"' << text << "\" does not contain \"" << part << '"';
}

}  // namespace lb::test
