// SPDX-License-Identifier: MIT
#include <lb/policy.hh>

#include <cstdlib>
#include <iterator>

#include "sys/error.hh"

namespace lb {
namespace {

struct Spelling {
  const char* text;
  Policy policy;
};

// Every policy there is: the first spelling of a policy is how it prints.
constexpr Spelling kSpellings[] = {
    {"auto", {Backend::automatic, Selector::standard}},
    {"shared", {Backend::shared, Selector::standard}},
    {"reuseport", {Backend::reuseport, Selector::standard}},
    {"reuseport:least-loaded", {Backend::reuseport, Selector::least_loaded}},
    {"reuseport:p2c", {Backend::reuseport, Selector::p2c}},
    {"reuseport:sticky", {Backend::reuseport, Selector::sticky}},
    {"reuseport:cpu", {Backend::reuseport, Selector::cpu}},
    {"reuseport:hermes", {Backend::reuseport, Selector::hermes}},
    {"reuseport:random", {Backend::reuseport, Selector::random}},
    {"reuseport:hash", {Backend::reuseport, Selector::hash}},
    {"round-robin", {Backend::round_robin, Selector::standard}},
    {"round-robin:cyclic", {Backend::round_robin, Selector::cyclic}},
    {"round-robin:least-loaded", {Backend::round_robin, Selector::least_loaded}},
    {"round-robin:custom", {Backend::round_robin, Selector::custom}},
    {"none", {Backend::shared, Selector::standard}},
    {"rr", {Backend::round_robin, Selector::standard}},
    {"rr:cyclic", {Backend::round_robin, Selector::cyclic}},
    {"rr:least-loaded", {Backend::round_robin, Selector::least_loaded}},
    {"rr:custom", {Backend::round_robin, Selector::custom}},
};

Result<Policy> parse_from(std::string_view text, std::string_view where) noexcept {
  for (const auto& spelling : kSpellings)
    if (text == spelling.text) return spelling.policy;
  try {
    return error_naming(EINVAL, std::string(where) + " \"" + std::string(text) + "\" is unknown (allowed: " + policy_names() + ")");
  } catch (...) {
    return Error{EINVAL, "policy"};
  }
}

}  // namespace

Result<Policy> Policy::parse(std::string_view text) noexcept { return parse_from(text, "policy"); }

Result<Policy> Policy::from_environment() noexcept { return from_environment(Policy{}); }

Result<Policy> Policy::from_environment(Policy otherwise) noexcept {
  const char* text = std::getenv("LB_SCHED_POLICY");
  if (text == nullptr || *text == '\0') return otherwise;
  return parse_from(text, "LB_SCHED_POLICY");
}

std::string Policy::to_string() const {
  Policy spelled = *this;
  if (selector == Selector::standard && backend == Backend::reuseport) spelled.selector = Selector::least_loaded;
  if (selector == Selector::standard && backend == Backend::round_robin) spelled.selector = Selector::cyclic;
  for (const auto& spelling : kSpellings)
    if (spelling.policy == spelled) return spelling.text;
  return "(no such policy)";
}

std::string policy_names() {
  std::string names;
  for (const auto& spelling : kSpellings) names += (names.empty() ? "" : ", ") + std::string(spelling.text);
  return names;
}

bool strict_from_environment() noexcept {
  const char* text = std::getenv("LB_STRICT");
  return text != nullptr && *text != '\0' && std::string_view(text) != "0";
}

}  // namespace lb
