// SPDX-License-Identifier: MIT
#include "fault_driver.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "fault_acts.hh"
#include "fault_cluster.hh"
#include "fault_worker.hh"

namespace lbbench {
namespace {

constexpr uint64_t kServedBetween = 10;
constexpr unsigned kIdsKept = 1024;  // of workers that a roll or two may still need at the end

/// The course of a run, from one primary's start to its end.
class FaultDriver {
 public:
  /// `shared`: ledger, report, stop.
  FaultDriver(const FaultServerPlan& plan, Ledger& ledger, FaultServerReport& report, const std::vector<int>& shared)
      : plan_(plan), ledger_(ledger), report_(report), stop_fd_(shared.back()), cluster_(plan, ledger, report),
        acts_(plan, cluster_, report, shared) {}

  bool start() {
    report_.primaries[plan_.primary] = getpid();
    if (!cluster_.open(acts_.policy())) return false;
    if (plan_.primary == 0) describe();
    return true;
  }

  bool harm() {
    FaultPlan faults(plan_.harm, plan_.seed);
    if (plan_.primary == 0) {
      report_.early = report_.middle = Footprint::of_this_process();
      report_.begun_ns = now_ns();
      report_.port = port_;
    }
    const uint64_t begun_ns = report_.begun_ns;
    const unsigned done = report_.faults;  // by those before
    for (unsigned i = 0; i < done; ++i) (void)faults.next();
    bool half = enough(2 * done, 2 * (now_ns() - begun_ns));
    for (unsigned i = done; !cluster_.handed_over() && !enough(i, now_ns() - begun_ns); ++i) {
      const Fault fault = faults.next();
      report_.faults = i + 1;
      if (!under_load() || !cluster_.rest(fault.pause_ns) || !acts_.commit(fault)) return false;
      if (!half && enough(2 * i, 2 * (now_ns() - begun_ns))) {
        half = true;
        report_.middle = Footprint::of_this_process();
      }
    }
    return true;
  }

  bool handed_over() const { return cluster_.handed_over(); }
  /// The next primary serves: this one's workers finish.
  bool see_off() {
    cluster_.let_leave();
    return cluster_.until("those to finish whom the next primary has not taken over", [this] { return cluster_->done(); });
  }

  /// Everything goes on, and what was begun comes to its end.
  bool calm() { return acts_.calm(); }

  /// Serves on, until the clients have gone.
  bool linger() {
    return cluster_.until("clients to go", [this] {
      pollfd fd{stop_fd_, POLLIN, 0};
      return ::poll(&fd, 1, 0) == 1;
    });
  }

  bool leave() {
    report_.late = Footprint::of_this_process();
    for (const auto& endpoint : cluster_->status().endpoints) report_.dropped += endpoint.lost;
    cluster_.let_leave();
    cluster_->shutdown();
    const bool done = cluster_.until("the shutdown", [this] { return cluster_->done(); });
    cluster_.close();
    while (waitpid(-1, nullptr, WNOHANG) == 0 || errno != ECHILD) {  // none may be there, dead or alive
      ++report_.left_over;
      if (waitpid(-1, nullptr, WNOHANG) == 0) break;
    }
    return done;
  }

 private:
  /// Waits until clients have been served since the last fault: with none, it would show nothing.
  bool under_load() {
    const uint64_t enough = ledger_.completed + kServedBetween;
    return cluster_.until("clients", [&] { return ledger_.completed >= enough || report_.halt; });
  }

  bool enough(unsigned faults, uint64_t elapsed_ns) const {
    pollfd stop{stop_fd_, POLLIN, 0};
    if (::poll(&stop, 1, 0) != 0) return true;  // nobody waits for the result any more
    const bool several = plan_.harm == Harm::chaos || plan_.harm == Harm::upgrade;
    if (report_.halt || cluster_.last_id() + kIdsKept > (several ? Ledger::kWorkersOfOne : Ledger::kWorkersEver)) return true;
    return (plan_.faults && faults >= *plan_.faults) || (plan_.duration_ns != 0 && elapsed_ns >= plan_.duration_ns);
  }

  void describe() {
    const auto status = cluster_->status();
    if (status.endpoints.empty()) return;
    const auto& endpoint = status.endpoints.front();
    port_ = endpoint.address.port();
    put(report_.effective, endpoint.effective.to_string());
    put(report_.rung, endpoint.rung);
    put(report_.reason, endpoint.reason);
  }

  const FaultServerPlan& plan_;
  Ledger& ledger_;
  FaultServerReport& report_;
  const int stop_fd_;
  FaultCluster cluster_;
  FaultActs acts_;
  uint16_t port_ = 0;
};

}  // namespace

int run_fault_server(const FaultServerPlan& plan, const SharedArray<Ledger>& ledger, const SharedArray<FaultServerReport>& report,
                     int stop_fd) {
  // What is set for the user's own programs is not for this one.
  setenv("LB_SCHED_POLICY", (plan.primary == 0 ? plan.policy : plan.policy_now).c_str(), 1);
  FaultDriver driver(plan, ledger[0], report[0], {ledger.fd(), report.fd(), stop_fd});
  bool served = driver.start() && driver.harm();
  if (served && driver.handed_over()) return driver.see_off() ? 0 : 1;
  served = served && driver.calm();
  report[0].over = true;
  if (!served || !driver.linger()) return 1;
  return driver.leave() ? 0 : 1;
}

int run_next_fault_server(int argc, char** argv) {
  constexpr int kFirst = 2;  // after kNextPrimary
  constexpr int kShared = 3;
  if (argc < kFirst + kShared) return 2;
  allow_descriptors();
  std::array<int, kShared> fds{};
  for (int i = 0; i < kShared; ++i) {
    fds[static_cast<size_t>(i)] = std::stoi(argv[kFirst + i]);
    fcntl(fds[static_cast<size_t>(i)], F_SETFD, FD_CLOEXEC);
  }
  const SharedArray<Ledger> ledger(lb::UniqueFd(fds[0]), 1);
  const SharedArray<FaultServerReport> report(lb::UniqueFd(fds[1]), 1);
  const lb::UniqueFd stop(fds[2]);
  return run_fault_server(FaultServerPlan::from_arguments({argv + kFirst + kShared, argv + argc}), ledger, report, stop.get());
}

}  // namespace lbbench
