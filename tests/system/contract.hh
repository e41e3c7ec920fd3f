// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "test_cluster.hh"

/// A contract test states what holds under every policy, however a worker takes its connections.
namespace lb::test {

inline constexpr const char* kPolicies[] = {"shared",           "reuseport",   "reuseport:p2c",           "reuseport:hash",
                                            "reuseport:random", "round-robin", "round-robin:least-loaded"};
inline constexpr const char* kRoundRobins[] = {"round-robin", "round-robin:least-loaded"};
inline constexpr Style kStyles[] = {Style::blocking, Style::watch, Style::pollable};

inline std::string test_name(std::string text) {
  for (char& c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return text;
}

/// One behaviour under one policy.
class PolicyTest : public testing::TestWithParam<const char*> {
 protected:
  static std::string policy() { return GetParam(); }
};
inline std::string policy_test_name(const testing::TestParamInfo<const char*>& info) { return test_name(info.param); }

/// One behaviour under one policy with one kind of worker.
inline constexpr WorkerKind kKinds[] = {WorkerKind::forked, WorkerKind::command, WorkerKind::thread};
inline constexpr WorkerKind kOtherKinds[] = {WorkerKind::command, WorkerKind::thread};    // where StyleTest has the forked one
inline constexpr WorkerKind kProcessKinds[] = {WorkerKind::forked, WorkerKind::command};  // a thread cannot be killed alone
class KindTest : public testing::TestWithParam<std::tuple<const char*, WorkerKind>> {
 protected:
  static std::string policy() { return std::get<0>(GetParam()); }
  static WorkerKind kind() { return std::get<1>(GetParam()); }
  static Setting setting() { return {std::get<0>(GetParam()), kind()}; }
};
inline std::string kind_test_name(const testing::TestParamInfo<std::tuple<const char*, WorkerKind>>& info) {
  return test_name(std::string(std::get<0>(info.param)) + "_" + to_string(std::get<1>(info.param)));
}

inline std::string kind_name(const testing::TestParamInfo<WorkerKind>& info) { return to_string(info.param); }

/// How many sockets of an endpoint listen for so many workers.
inline size_t listening_sockets(const std::string& policy, size_t workers) {
  return Policy::parse(policy)->backend == Backend::reuseport ? workers : 1;
}

/// One behaviour under one policy and one style.
class StyleTest : public testing::TestWithParam<std::tuple<const char*, Style>> {
 protected:
  static std::string policy() { return std::get<0>(GetParam()); }
  static Style style() { return std::get<1>(GetParam()); }
};
inline std::string style_test_name(const testing::TestParamInfo<std::tuple<const char*, Style>>& info) {
  return test_name(std::string(std::get<0>(info.param)) + "_" + name_of(std::get<1>(info.param)));
}

}  // namespace lb::test

#define LB_FOR_EVERY_POLICY(suite) INSTANTIATE_TEST_SUITE_P(every, suite, testing::ValuesIn(kPolicies), policy_test_name)
#define LB_FOR_EVERY_POLICY_AND_KIND(suite) \
  INSTANTIATE_TEST_SUITE_P(every, suite, testing::Combine(testing::ValuesIn(kPolicies), testing::ValuesIn(kKinds)), kind_test_name)
#define LB_FOR_EVERY_POLICY_AND_OTHER_KIND(suite)                                                                        \
  INSTANTIATE_TEST_SUITE_P(every, suite, testing::Combine(testing::ValuesIn(kPolicies), testing::ValuesIn(kOtherKinds)), \
                           kind_test_name)
#define LB_FOR_EVERY_POLICY_AND_PROCESS_KIND(suite)                                                                        \
  INSTANTIATE_TEST_SUITE_P(every, suite, testing::Combine(testing::ValuesIn(kPolicies), testing::ValuesIn(kProcessKinds)), \
                           kind_test_name)
#define LB_FOR_EVERY_POLICY_AND_STYLE(suite)                                                                         \
  INSTANTIATE_TEST_SUITE_P(every, suite, testing::Combine(testing::ValuesIn(kPolicies), testing::ValuesIn(kStyles)), \
                           style_test_name)
