// SPDX-License-Identifier: MIT
#include "fault_plan.hh"

#include <algorithm>

namespace lbbench {
namespace {

struct Weighted {
  FaultKind kind;
  unsigned weight;
};

constexpr uint64_t kMs = 1'000'000;
constexpr std::array kChaos{Weighted{FaultKind::kill, 29},
                            Weighted{FaultKind::stop, 20},
                            Weighted{FaultKind::roll, 10},
                            Weighted{FaultKind::policy, 15},
                            Weighted{FaultKind::scale, 15},
                            Weighted{FaultKind::upgrade, 1},
                            Weighted{FaultKind::worker_descriptors, 7},
                            Weighted{FaultKind::primary_descriptors, 3}};

FaultKind pick(uint64_t draw) {
  for (const auto& [kind, weight] : kChaos) {
    if (draw < weight) return kind;
    draw -= weight;
  }
  return FaultKind::kill;
}

}  // namespace

const char* name_of(FaultKind kind) {
  constexpr const char* names[kFaultKinds] = {"kills",       "stops",    "rolls",          "policy changes",
                                              "scale steps", "upgrades", "worker EMFILEs", "primary EMFILEs"};
  return names[static_cast<size_t>(kind)];
}

Fault FaultPlan::next() {
  switch (harm_) {
    case Harm::crash:
      return {FaultKind::kill, below(20 * kMs), random_()};
    case Harm::restart:
      return {FaultKind::roll, below(20 * kMs), random_()};
    case Harm::change:
      return {FaultKind::policy, 5 * kMs + below(30 * kMs), random_()};
    case Harm::scale:
      return {FaultKind::scale, below(50 * kMs), random_()};
    case Harm::upgrade:
      return {FaultKind::upgrade, below(20 * kMs), random_()};
    case Harm::chaos:
    case Harm::none:
      break;
  }
  const FaultKind kind = pick(below(100));
  return {kind, below(150 * kMs), random_()};
}

std::vector<std::string> policies_to_visit(const std::string& first) {
  std::vector<std::string> all{first};
  for (const char* policy : {"shared", "reuseport", "reuseport:hash", "reuseport:p2c", "reuseport:hermes", "reuseport:sticky",
                             "round-robin", "round-robin:least-loaded"}) {
    if (first != policy) all.emplace_back(policy);
  }
  return all;
}

/// Of n places: from 0 to each i and back, and in between from each i to every j > i and back, depth first.
std::vector<std::string> tour_of(const std::vector<std::string>& policies) {
  std::vector<std::string> walk;
  for (size_t i = 1; i < policies.size(); ++i) {
    walk.push_back(policies[i]);
    for (size_t j = i + 1; j < policies.size(); ++j) {
      walk.push_back(policies[j]);
      walk.push_back(policies[i]);
    }
    walk.push_back(policies[0]);
  }
  return walk;
}

}  // namespace lbbench
