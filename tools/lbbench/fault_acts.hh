// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fault_cluster.hh"
#include "fault_plan.hh"

namespace lbbench {

bool changing(const lb::Status& status);

/// Does faults to a cluster. Under chaos one may come to nothing, and the next does not wait for its end; else it is waited for.
class FaultActs {
 public:
  /// `shared`: what the next primary needs of this one: ledger, report, stop.
  FaultActs(const FaultServerPlan& plan, FaultCluster& cluster, FaultServerReport& report, std::vector<int> shared)
      : plan_(plan), cluster_(cluster), report_(report), shared_(std::move(shared)), policies_(policies_to_visit(plan.policy)),
        tour_(tour_of(policies_)), policy_(plan.primary == 0 ? plan.policy : plan.policy_now) {}

  /// The policy that was last asked for.
  const std::string& policy() const { return policy_; }

  /// False, with a report, when it is not as it should be.
  bool commit(const Fault& fault);
  /// Ends them: with the workers and the policy of the start.
  bool calm();

 private:
  lb::WorkerStatus victim(uint64_t draw) const;
  bool kill(uint64_t draw);
  void stop_for_a_while(uint64_t draw);
  bool roll(uint64_t draw);
  std::string next_policy(uint64_t draw);
  bool change_to(const std::string& policy);
  unsigned next_scale(uint64_t draw) const;
  bool scale_to(unsigned workers);
  bool upgrade(uint64_t draw);
  void starve_worker(uint64_t draw);
  void starve(pid_t pid, uint64_t draw);

  const FaultServerPlan& plan_;
  FaultCluster& cluster_;
  FaultServerReport& report_;
  const std::vector<int> shared_;
  const std::vector<std::string> policies_;
  const std::vector<std::string> tour_;
  std::string policy_;
  std::vector<pid_t> starved_;
  unsigned changes_ = 0;
  bool halting_ = false;
};

}  // namespace lbbench
