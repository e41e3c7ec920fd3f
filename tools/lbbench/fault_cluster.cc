// SPDX-License-Identifier: MIT
#include "fault_cluster.hh"

#include <sysexits.h>

#include <algorithm>
#include <cerrno>

#include "fault_worker.hh"

namespace lbbench {
namespace {

using Kind = lb::Event::Kind;
using std::chrono::milliseconds;

constexpr uint64_t kStaffNs = 20 * kMs;

}  // namespace

bool FaultCluster::open(const std::string& policy) {
  const auto parsed = lb::Policy::parse(policy);
  if (!parsed) return failed(parsed.error().message());
  lb::Options options{.workers = plan_.workers, .workers_max = most(), .policy = *parsed, .respawn = false};
  options.on_event = [this](const lb::Event& event) { on_event(event); };
  auto cluster = lb::Cluster::create(std::move(options));
  if (!cluster) return failed(cluster.error().message());
  cluster_.emplace(std::move(*cluster));
  return until("workers to listen", [this] { return listening() >= target_ && (plan_.primary == 0 || took_over_); });
}

bool FaultCluster::failed(const std::string& why) {
  if (report_.error[0] == '\0') put(report_.error, why);
  return false;
}

void FaultCluster::note(const lb::Event& event) {
  switch (event.kind) {
    case Kind::exit:
      return note("worker {} exits: code {}, signal {}{}", number_of(event.worker), event.exit_code, event.signal,
                  event.expected ? ", as meant" : "");
    case Kind::listening:
      return note("worker {} listens", number_of(event.worker));
    case Kind::draining:
      return note("worker {} drains", number_of(event.worker));
    case Kind::roll_done:
      return note("roll done");
    case Kind::roll_failed:
      return note("roll failed: {}", event.reason);
    case Kind::policy_changed:
      return note("policy is {}", event.endpoint->effective.to_string());
    case Kind::policy_not_changed:
      return note("policy does not change: {}", event.reason);
    case Kind::upgrade_done:
      return note("primary {} hands over", plan_.primary);
    case Kind::upgrade_failed:
      return note("upgrade failed: {}", event.reason);
    case Kind::took_over:
      return note("primary {} has taken over", plan_.primary);
    default:
      return;
  }
}

void FaultCluster::on_event(const lb::Event& event) {
  note(event);
  if (event.kind == Kind::spawned) {
    ids_ = event.worker;
    ++report_.workers;
  }
  took_over_ |= event.kind == Kind::took_over;
  handed_over_ |= event.kind == Kind::upgrade_done;
  if (event.kind == Kind::upgrade_failed) {
    upgrade_failed_ = true;
    ++report_.upgrades_failed;
    if (plan_.harm != Harm::chaos) failed(fmt::format("an upgrade failed: {}", event.reason));
  }
  if (event.kind == Kind::roll_done) ++rolls_ended_;
  if (event.kind == Kind::roll_failed) {
    ++rolls_ended_;
    ++report_.rolls_failed;
    if (plan_.harm != Harm::chaos) failed(fmt::format("a rolling restart failed: {}", event.reason));
  }
  if (event.kind == Kind::policy_changed) ++changes_ended_;
  if (event.kind == Kind::policy_not_changed) {
    ++changes_ended_;
    ++report_.changes_failed;
    if (plan_.harm != Harm::chaos) failed(fmt::format("a change of policy failed: {}", event.reason));
  }
  if (event.kind == Kind::exit) on_exit(event);
}

void FaultCluster::on_exit(const lb::Event& event) {
  staff_ns_ = 0;
  const bool by_us = event.worker < Ledger::kWorkersOfOne * Ledger::kPrimariesMax - first_ && line_of(event.worker).killed_ns != 0;
  if (by_us || event.expected) return;  // a rolling restart that has failed ends those that were starting
  // One that could not start, as there were no descriptors, in it or in the primary; keep_staffed tries again.
  const bool not_started = event.exit_code == EX_SOFTWARE && std::ranges::count(starved_, event.worker) != 0;
  if (plan_.harm == Harm::chaos && event.signal == 0 && (event.exit_code == EMFILE || not_started)) return;
  if (report_.crashes++ == 0)
    put(report_.crash, fmt::format("worker {}: exit code {}, signal {}", event.worker, event.exit_code, event.signal));
}

bool FaultCluster::until(const char* what, const std::function<bool()>& condition, uint64_t patience_ns) {
  const uint64_t deadline_ns = now_ns() + patience_ns;
  while (!condition()) {
    if (now_ns() > deadline_ns) return failed(fmt::format("waited in vain for {}\n{}", what, cluster_->status().to_string()));
    if (!turn(10)) return false;
  }
  return true;
}

bool FaultCluster::rest(uint64_t pause_ns) {
  const uint64_t end_ns = now_ns() + pause_ns;
  for (uint64_t now = now_ns(); now < end_ns; now = now_ns())
    if (!turn(std::min<uint64_t>(10, (end_ns - now) / kMs))) return false;
  return true;
}

bool FaultCluster::turn(uint64_t timeout_ms) {
  if (const auto polled = cluster_->poll(milliseconds(timeout_ms)); !polled) return failed(polled.error().message());
  const uint64_t now = now_ns();
  for (size_t i = 0; i < undos_.size();) {
    if (undos_[i].at_ns > now) {
      ++i;
      continue;
    }
    undos_[i].act();
    undos_.erase(undos_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (now >= staff_ns_) keep_staffed(now);
  return report_.error[0] == '\0';
}

void FaultCluster::undo_all() {
  for (auto& undo : std::exchange(undos_, {})) undo.act();
}

/// Starts those that are missing. Not by Options::respawn, whose pauses between crashes would be most of the time.
void FaultCluster::keep_staffed(uint64_t now) {
  staff_ns_ = now + kStaffNs;
  if (leaving_ || handed_over_) return;
  const auto status = cluster_->status();
  if (status.roll.state == lb::RollStatus::State::running || !status.scaling.empty()) return;
  const auto staying = std::ranges::count_if(status.workers, [](const auto& worker) {
    return worker.state != lb::WorkerState::draining && worker.state != lb::WorkerState::gone;
  });
  for (auto count = static_cast<unsigned>(staying); count < target_; ++count) {
    const auto spawned = cluster_->spawn(
        [this](lb::Worker& worker) { return serve_accounted(worker, plan_.model, Workload(plan_.work, 0), ledger_, first_); });
    if (spawned) continue;
    if (plan_.harm != Harm::chaos) failed(spawned.error().message());
    return;
  }
}

unsigned FaultCluster::listening() const {
  const auto workers = cluster_->workers();
  return static_cast<unsigned>(std::ranges::count(workers, lb::WorkerState::listening, &lb::WorkerStatus::state));
}

unsigned FaultCluster::most() const { return std::min(kWorkersMax, plan_.workers + (plan_.workers + 1) / 2); }

}  // namespace lbbench
