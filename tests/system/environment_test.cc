// SPDX-License-Identifier: MIT
// What the operator says counts, and what cannot be meant is an error.
#include <cerrno>

#include "contract.hh"
#include "isolation.hh"

namespace lb::test {
namespace {

class Environment : public PolicyTest {};
LB_FOR_EVERY_POLICY(Environment);

TEST_P(Environment, N4_lb_sched_policy_overrides_the_programs_option) {
  const ScopedVariable variable("LB_SCHED_POLICY", GetParam());
  TestCluster cluster(policy() == "shared" ? "round-robin" : "shared");
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  const auto asked = Policy::parse(policy()).value();
  EXPECT_EQ(cluster.endpoint().requested.to_string(), asked.to_string());
  EXPECT_EQ(cluster.endpoint().effective.backend, asked.backend);
  cluster.expect_clean_shutdown();
}

class BadPolicy : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(value, BadPolicy, testing::Values("rrr", "Shared", "reuseport:", "round-robin:hash", "auto "));

TEST_P(BadPolicy, N4_unknown_lb_sched_policy_is_an_error_that_names_it_and_lists_the_valid_ones) {
  const ScopedVariable variable("LB_SCHED_POLICY", GetParam());
  const auto cluster = Cluster::create({});
  ASSERT_FALSE(cluster);
  EXPECT_EQ(cluster.error().code, EINVAL);
  const auto message = cluster.error().message();
  EXPECT_NE(message.find(GetParam()), std::string::npos) << message;
  for (const char* valid : {"shared", "reuseport", "round-robin", "auto", "least-loaded", "p2c", "hash", "cyclic"}) {
    EXPECT_NE(message.find(valid), std::string::npos) << valid << " is missing in: " << message;
  }
}

TEST(EnvironmentDefault, empty_lb_sched_policy_means_the_programs_option) {
  const ScopedVariable variable("LB_SCHED_POLICY", "");
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  EXPECT_EQ(cluster.endpoint().effective.backend, Backend::shared);
  cluster.expect_clean_shutdown();
}

TEST(EnvironmentDefault, nodes_names_are_understood) {
  for (const auto& [name, backend] : {std::pair{"none", Backend::shared}, std::pair{"rr", Backend::round_robin}}) {
    const ScopedVariable variable("LB_SCHED_POLICY", name);
    TestCluster cluster("reuseport");
    ASSERT_TRUE(cluster.start(1, Style::blocking));
    EXPECT_EQ(cluster.endpoint().effective.backend, backend) << name;
    cluster.expect_clean_shutdown();
  }
}

TEST(OptionsOutOfRange, window_is_1_to_32) {
  for (const unsigned window : {0U, 33U, 1000U}) {
    const auto cluster = Cluster::create({.window = window});
    EXPECT_EQ(cluster.error().code, EINVAL) << window;
  }
  for (const unsigned window : {1U, 32U}) EXPECT_TRUE(Cluster::create({.window = window})) << window;
}

}  // namespace
}  // namespace lb::test
