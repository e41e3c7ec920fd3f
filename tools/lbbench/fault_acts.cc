// SPDX-License-Identifier: MIT
#include "fault_acts.hh"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "fault_driver.hh"

namespace lbbench {

bool changing(const lb::Status& status) {
  return std::ranges::any_of(status.endpoints, [](const auto& endpoint) { return !endpoint.changing.empty(); });
}

bool FaultActs::commit(const Fault& fault) {
  bool done = true;
  switch (fault.kind) {
    case FaultKind::kill:
      done = kill(fault.draw);
      break;
    case FaultKind::stop:
      stop_for_a_while(fault.draw);
      break;
    case FaultKind::roll:
      done = roll(fault.draw);
      break;
    case FaultKind::policy:
      done = change_to(next_policy(fault.draw));
      break;
    case FaultKind::scale:
      done = scale_to(next_scale(fault.draw));
      break;
    case FaultKind::upgrade:
      return upgrade(fault.draw);
    case FaultKind::worker_descriptors:
      starve_worker(fault.draw);
      break;
    case FaultKind::primary_descriptors:
      starve(getpid(), fault.draw);
      break;
  }
  if (done) ++report_.done[static_cast<size_t>(fault.kind)];
  return done;
}

bool FaultActs::calm() {
  halting_ = true;
  cluster_.undo_all();
  cluster_.set_target(plan_.workers);
  const auto settled = [this] {
    const auto status = cluster_->status();
    return status.roll.state != lb::RollStatus::State::running && status.scaling.empty() && !changing(status) &&
           cluster_.listening() >= cluster_.target();
  };
  if (!cluster_.until("all to be calm", settled)) return false;
  if (!change_to(plan_.policy) || !scale_to(plan_.workers)) return false;
  return cluster_.until("all to be as at the start", settled);
}

/// One of the workers; its pid is 0 if there is none.
lb::WorkerStatus FaultActs::victim(uint64_t draw) const {
  const auto workers = cluster_->workers();
  return workers.empty() ? lb::WorkerStatus{} : workers[draw % workers.size()];
}

bool FaultActs::kill(uint64_t draw) {
  const auto worker = victim(draw);
  if (worker.pid <= 0) return true;
  if (draw / 1000 % 3 == 0) {
    cluster_.note("stop worker {}, to be killed", cluster_.number_of(worker.id));
    ::kill(worker.pid, SIGSTOP);
    if (!cluster_.rest(draw / 3000 % 20 * kMs)) return false;
  }
  if (!cluster_->is_connected(worker.id) && cluster_->is_dead(worker.id)) return true;  // it left meanwhile
  cluster_.note("kill worker {}", cluster_.number_of(worker.id));
  cluster_.line_of(worker.id).killed_ns = now_ns();
  ::kill(worker.pid, SIGKILL);
  if (plan_.harm == Harm::chaos) return true;
  // Mostly with all at work, sometimes while a replacement starts.
  const unsigned enough = draw / 60000 % 4 == 0 ? 1 : cluster_.target();
  return cluster_.until("replacements", [&] { return cluster_->is_dead(worker.id) && cluster_.listening() >= enough; });
}

void FaultActs::stop_for_a_while(uint64_t draw) {
  const auto worker = victim(draw);
  if (worker.pid <= 0) return;
  cluster_.note("stop worker {}", cluster_.number_of(worker.id));
  ::kill(worker.pid, SIGSTOP);
  cluster_.undo_in((20 + draw / 1000 % 600) * kMs, [this, worker] {
    cluster_.note("worker {} goes on", cluster_.number_of(worker.id));
    if (!cluster_->is_dead(worker.id)) ::kill(worker.pid, SIGCONT);
  });
}

bool FaultActs::roll(uint64_t draw) {
  const bool chaos = plan_.harm == Harm::chaos;
  if (chaos && cluster_->status().roll.state == lb::RollStatus::State::running) return true;
  cluster_.note("roll");
  const unsigned ended = cluster_.rolls_ended();
  const auto asked = cluster_->roll({.at_once = 1 + static_cast<unsigned>(draw % cluster_.target())});
  if (!asked) return cluster_.failed(asked.error().message());
  return chaos || cluster_.until("the rolling restart", [&] { return cluster_.rolls_ended() > ended; });
}

std::string FaultActs::next_policy(uint64_t draw) {
  if (plan_.harm == Harm::change) return tour_[changes_++ % tour_.size()];
  const size_t here = static_cast<size_t>(std::ranges::find(policies_, policy_) - policies_.begin());
  return policies_[(here + 1 + draw % (policies_.size() - 1)) % policies_.size()];
}

bool FaultActs::change_to(const std::string& policy) {
  if (policy == policy_) return true;
  const bool chaos = plan_.harm == Harm::chaos && !halting_;
  if (chaos && changing(cluster_->status())) return true;
  cluster_.note("policy {} to {}", policy_, policy);
  const unsigned ended = cluster_.changes_ended();
  const auto asked = cluster_->set_policy(lb::Policy::parse(policy).value());
  if (!asked && chaos) {  // without descriptors it may be refused
    ++report_.changes_failed;
    return true;
  }
  if (!asked) return cluster_.failed(fmt::format("{} to {}: {}", policy_, policy, asked.error().message()));
  policy_ = policy;
  return chaos || cluster_.until("the change of policy", [&] { return cluster_.changes_ended() > ended; });
}

unsigned FaultActs::next_scale(uint64_t draw) const {
  const unsigned least = std::max(1U, plan_.workers / 2);
  return least + static_cast<unsigned>(draw % (cluster_.most() - least + 1));
}

bool FaultActs::scale_to(unsigned workers) {
  cluster_.note("scale to {}", workers);
  if (const auto asked = cluster_->scale(workers); !asked) return cluster_.failed(asked.error().message());
  cluster_.set_target(workers);
  if (plan_.harm == Harm::chaos && !halting_) return true;
  return cluster_.until("the workers asked for", [&] {
    return cluster_->status().scaling.empty() && cluster_.listening() == cluster_.target() &&
           cluster_->workers().size() == cluster_.target();
  });
}

/// Under chaos it may be refused, while a roll or a change is under way, or come to nothing for want of descriptors.
bool FaultActs::upgrade(uint64_t draw) {
  if (plan_.primary + 1 == Ledger::kPrimariesMax) return true;
  FaultServerPlan next = plan_;
  next.primary = plan_.primary + 1;
  next.policy_now = policy_;
  next.workers_now = cluster_.target();
  lb::Command command{.args = {kNextPrimary}, .env = {fmt::format("LB_SCHED_POLICY={}", policy_)}};
  for (const int fd : shared_) {
    fcntl(fd, F_SETFD, 0);
    command.args.push_back(std::to_string(fd));
  }
  for (auto& argument : next.to_arguments()) command.args.push_back(std::move(argument));
  cluster_.note("upgrade");
  cluster_.forget_failed_upgrade();
  const auto asked = cluster_->upgrade(std::move(command));
  for (const int fd : shared_) fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (!asked && plan_.harm != Harm::chaos) return cluster_.failed(asked.error().message());
  if (!asked) return true;
  if (plan_.harm == Harm::chaos && draw % 2 == 0 && !kill(draw / 2)) return false;
  const auto ended = [this] { return cluster_.handed_over() || cluster_.upgrade_failed(); };
  if (!cluster_.until("the next primary", ended, 2 * kPatienceNs)) return false;
  if (cluster_.handed_over()) ++report_.done[static_cast<size_t>(FaultKind::upgrade)];
  return true;
}

void FaultActs::starve_worker(uint64_t draw) {
  const auto worker = victim(draw);
  cluster_.may_not_start(worker.id);
  starve(worker.pid, draw);
}

/// Takes from the process the right to open any descriptor more; setrlimit(2).
void FaultActs::starve(pid_t pid, uint64_t draw) {
  if (pid <= 0 || std::ranges::find(starved_, pid) != starved_.end()) return;
  rlimit before{};
  if (prlimit(pid, RLIMIT_NOFILE, nullptr, &before) != 0) return;
  const rlimit now{.rlim_cur = descriptors_of(pid), .rlim_max = before.rlim_max};
  if (prlimit(pid, RLIMIT_NOFILE, &now, nullptr) != 0) return;
  cluster_.note("no descriptors for {}", pid == getpid() ? "the primary" : fmt::format("process {}", pid));
  starved_.push_back(pid);
  cluster_.undo_in((20 + draw / 1000 % 300) * kMs, [this, pid, before] {
    prlimit(pid, RLIMIT_NOFILE, &before, nullptr);  // if it is still there
    std::erase(starved_, pid);
  });
}

}  // namespace lbbench
