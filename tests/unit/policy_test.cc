// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <lb/policy.hh>
#include <sstream>
#include <string>

#include "isolation.hh"

namespace lb {
namespace {

using test::ScopedVariable;

struct PolicyText {
  const char* text;
  Backend backend;
  const char* printed;
};

constexpr PolicyText kGood[] = {
    {"auto", Backend::automatic, "auto"},
    {"shared", Backend::shared, "shared"},
    {"none", Backend::shared, "shared"},
    {"reuseport", Backend::reuseport, "reuseport:least-loaded"},
    {"reuseport:least-loaded", Backend::reuseport, "reuseport:least-loaded"},
    {"reuseport:p2c", Backend::reuseport, "reuseport:p2c"},
    {"reuseport:sticky", Backend::reuseport, "reuseport:sticky"},
    {"reuseport:cpu", Backend::reuseport, "reuseport:cpu"},
    {"reuseport:hermes", Backend::reuseport, "reuseport:hermes"},
    {"reuseport:random", Backend::reuseport, "reuseport:random"},
    {"reuseport:hash", Backend::reuseport, "reuseport:hash"},
    {"round-robin", Backend::round_robin, "round-robin:cyclic"},
    {"round-robin:cyclic", Backend::round_robin, "round-robin:cyclic"},
    {"round-robin:least-loaded", Backend::round_robin, "round-robin:least-loaded"},
    {"round-robin:custom", Backend::round_robin, "round-robin:custom"},
    {"rr:custom", Backend::round_robin, "round-robin:custom"},
    {"rr", Backend::round_robin, "round-robin:cyclic"},
    {"rr:cyclic", Backend::round_robin, "round-robin:cyclic"},
    {"rr:least-loaded", Backend::round_robin, "round-robin:least-loaded"},
};

class GoodPolicy : public testing::TestWithParam<PolicyText> {};
INSTANTIATE_TEST_SUITE_P(each, GoodPolicy, testing::ValuesIn(kGood));

TEST_P(GoodPolicy, is_read_and_printed_so_that_it_is_read_back) {
  const auto policy = Policy::parse(GetParam().text);
  ASSERT_TRUE(policy) << policy.error().message();
  EXPECT_EQ(policy->backend, GetParam().backend);
  EXPECT_EQ(policy->to_string(), GetParam().printed);
  EXPECT_EQ(Policy::parse(policy->to_string())->to_string(), GetParam().printed);
}

TEST_P(GoodPolicy, is_read_from_the_environment) {
  const ScopedVariable variable("LB_SCHED_POLICY", GetParam().text);
  const auto policy = Policy::from_environment({Backend::shared, Selector::standard});
  ASSERT_TRUE(policy) << policy.error().message();
  EXPECT_EQ(policy->to_string(), GetParam().printed);
}

TEST(Policy, selectors_are_told_apart) {
  EXPECT_EQ(Policy::parse("reuseport:p2c")->selector, Selector::p2c);
  EXPECT_EQ(Policy::parse("reuseport:random")->selector, Selector::random);
  EXPECT_EQ(Policy::parse("reuseport:hash")->selector, Selector::hash);
  EXPECT_EQ(Policy::parse("reuseport:sticky")->selector, Selector::sticky);
  EXPECT_EQ(Policy::parse("reuseport:cpu")->selector, Selector::cpu);
  EXPECT_EQ(Policy::parse("reuseport:hermes")->selector, Selector::hermes);
  EXPECT_EQ(Policy::parse("rr:least-loaded")->selector, Selector::least_loaded);
  EXPECT_FALSE(Policy::parse("reuseport:p2c").value() == Policy::parse("reuseport:hash").value());
}

class BadPolicy : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(each, BadPolicy,
                         testing::Values("rrr", "roundrobin", "round_robin", "Shared", "SHARED", " shared", "shared ",
                                         "shared:", "shared:least-loaded", "none:x", "reuseport:", "reuseport: p2c",
                                         "reuseport:cyclic", "reuseport:p2c:", "reuseport:p2c:hash", "reuseport,p2c",
                                         "round-robin:", "round-robin:hash", "round-robin:sticky", "sticky", "shared:cpu",
                                         "round-robin:p2c", "rr:random", "rr:", "auto:", "auto:p2c", "automatic", "default",
                                         "hermes", "round-robin:hermes", "shared:hermes", ":", ":p2c", "least-loaded", "0", "1"));

void expect_names_it_and_lists_all(const Error& error, const std::string& given) {
  EXPECT_EQ(error.code, EINVAL);
  const auto message = error.message();
  EXPECT_NE(message.find(given), std::string::npos) << message;
  for (const char* valid :
       {"shared", "reuseport", "round-robin", "auto", "least-loaded", "p2c", "hermes", "random", "hash", "cyclic"}) {
    EXPECT_NE(message.find(valid), std::string::npos) << valid << " is missing in: " << message;
  }
}

TEST_P(BadPolicy, is_einval_that_names_it_and_lists_what_is_allowed) {
  const auto policy = Policy::parse(GetParam());
  ASSERT_FALSE(policy) << "read as " << policy->to_string();
  expect_names_it_and_lists_all(policy.error(), GetParam());
}

TEST_P(BadPolicy, is_an_error_in_the_environment_too_and_never_the_default) {
  const ScopedVariable variable("LB_SCHED_POLICY", GetParam());
  const auto policy = Policy::from_environment({Backend::shared, Selector::standard});
  ASSERT_FALSE(policy) << "read as " << policy->to_string();
  expect_names_it_and_lists_all(policy.error(), GetParam());
}

TEST(Policy, empty_text_is_an_error) { EXPECT_EQ(Policy::parse("").error().code, EINVAL); }

TEST(Policy, long_and_binary_text_is_an_error) {
  EXPECT_EQ(Policy::parse(std::string(1'000'000, 'r')).error().code, EINVAL);
  EXPECT_EQ(Policy::parse(std::string_view("shared\0", 7)).error().code, EINVAL);
  EXPECT_EQ(Policy::parse("\xff\xfe\x01").error().code, EINVAL);
}

TEST(Policy, errors_stay_readable_while_others_are_made) {
  const auto first = Policy::parse("one").error();
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(Policy::parse("other" + std::to_string(i)));
  EXPECT_NE(first.message().find("one"), std::string::npos) << first.message();
}

TEST(Policy, text_need_not_end_with_a_zero) {
  EXPECT_EQ(Policy::parse(std::string_view("reuseport:p2c").substr(0, 9))->to_string(), "reuseport:least-loaded");
}

TEST(Policy, unset_or_empty_environment_means_otherwise) {
  const Policy otherwise{Backend::reuseport, Selector::p2c};
  ::unsetenv("LB_SCHED_POLICY");
  EXPECT_EQ(Policy::from_environment(otherwise).value(), otherwise);
  const ScopedVariable variable("LB_SCHED_POLICY", "");
  EXPECT_EQ(Policy::from_environment(otherwise).value(), otherwise);
}

TEST(Policy, default_is_auto) { EXPECT_EQ(Policy{}.to_string(), "auto"); }

TEST(PolicyNames, are_all_read_and_are_all_there_is) {
  std::istringstream names(policy_names());
  std::string all = ",";
  for (std::string name; std::getline(names, name, ',');) {
    name.erase(0, name.find_first_not_of(' '));
    EXPECT_TRUE(Policy::parse(name)) << name;
    all += name + ",";
  }
  for (const auto& good : kGood) {
    const std::string printed = good.printed;
    const auto backend = printed.substr(0, printed.find(':'));
    EXPECT_TRUE(all.find("," + printed + ",") != std::string::npos || all.find("," + backend + ",") != std::string::npos)
        << printed << " is not in " << all;
  }
}

TEST(Strict, is_anything_but_unset_empty_and_0) {
  ::unsetenv("LB_STRICT");
  EXPECT_FALSE(strict_from_environment());
  for (const char* off : {"", "0"}) {
    const ScopedVariable variable("LB_STRICT", off);
    EXPECT_FALSE(strict_from_environment()) << '"' << off << '"';
  }
  for (const char* on : {"1", "yes", "00", "false", " "}) {
    const ScopedVariable variable("LB_STRICT", on);
    EXPECT_TRUE(strict_from_environment()) << '"' << on << '"';
  }
}

}  // namespace
}  // namespace lb
