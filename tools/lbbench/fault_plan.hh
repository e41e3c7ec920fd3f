// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "scenario.hh"

namespace lbbench {

/// What is done to a cluster while it serves.
enum class FaultKind {
  kill,                ///< SIGKILL to a worker; one in three has been stopped for a moment, and holds what it was given
  stop,                ///< SIGSTOP to a worker, and SIGCONT later
  roll,                ///< a rolling restart
  policy,              ///< a change of policy
  scale,               ///< another number of workers
  upgrade,             ///< a new primary, in a program executed anew; in every other one a worker is killed meanwhile
  worker_descriptors,  ///< a worker can open no further descriptor for a while
  primary_descriptors  ///< nor can the primary
};
constexpr size_t kFaultKinds = 8;
/// "kills", "rolls", ...: how a report names several of them, and JSON the counter.
const char* name_of(FaultKind kind);

struct Fault {
  FaultKind kind;
  uint64_t pause_ns;  ///< to wait before it
  uint64_t draw;      ///< settles what is left open: which worker, how many, for how long
};

/// The faults of a scenario, one after another without end. The same scenario and seed give the same ones on every machine.
class FaultPlan {
 public:
  FaultPlan(Harm harm, uint64_t seed) : harm_(harm), random_(seed) {}
  Fault next();

 private:
  uint64_t below(uint64_t limit) { return random_() % limit; }

  const Harm harm_;
  std::mt19937_64 random_;
};

/// The policies that are changed between, `first` among them.
std::vector<std::string> policies_to_visit(const std::string& first);

/// A closed walk that begins and ends at `policies[0]` and makes every change from one to another exactly once: where each change leads.
std::vector<std::string> tour_of(const std::vector<std::string>& policies);

}  // namespace lbbench
