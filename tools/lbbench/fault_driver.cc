// SPDX-License-Identifier: MIT
#include "fault_driver.hh"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <lb/lb.hh>

#include "clock.hh"
#include "fault_worker.hh"

namespace lbbench {
namespace {

using Kind = lb::Event::Kind;
using std::chrono::milliseconds;

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kPatienceNs = 30'000 * kMs;  // longer than liblb needs for anything, on a busy machine too
constexpr uint64_t kServedBetween = 10;
constexpr uint64_t kStaffNs = 20 * kMs;
constexpr unsigned kIdsKept = 1024;  // of workers that a roll or two may still need at the end

template <size_t N>
void put(std::array<char, N>& to, const std::string& text) {
  to[text.copy(to.data(), N - 1)] = '\0';
}

unsigned descriptors_of(pid_t pid) {
  DIR* dir = opendir(fmt::format("/proc/{}/fd", pid).c_str());
  if (dir == nullptr) return 0;
  unsigned count = 0;
  while (const dirent* entry = readdir(dir)) count += entry->d_name[0] != '.' ? 1 : 0;
  closedir(dir);
  return count;
}

/// Something that was taken away and is given back in time.
struct Undo {
  uint64_t at_ns;
  std::function<void()> act;
};

class FaultDriver {
 public:
  FaultDriver(const FaultServerPlan& plan, Ledger& ledger, FaultServerReport& report, std::vector<int> shared)
      : plan_(plan), ledger_(ledger), report_(report), shared_(std::move(shared)), first_(plan.primary * Ledger::kWorkersOfOne),
        target_(plan.primary == 0 ? plan.workers : plan.workers_now), policies_(policies_to_visit(plan.policy)),
        tour_(tour_of(policies_)), policy_(plan.primary == 0 ? plan.policy : plan.policy_now) {}

  bool start() {
    report_.primaries[plan_.primary] = getpid();
    const auto policy = lb::Policy::parse(policy_);
    if (!policy) return failed(policy.error().message());
    lb::Options options{.workers = plan_.workers, .workers_max = most(), .policy = *policy, .respawn = false};
    options.on_event = [this](const lb::Event& event) { on_event(event); };
    auto cluster = lb::Cluster::create(std::move(options));
    if (!cluster) return failed(cluster.error().message());
    cluster_.emplace(std::move(*cluster));
    if (!until("workers to listen", [this] { return listening() >= target_ && (plan_.primary == 0 || took_over_); })) return false;
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
    for (unsigned i = done; !handed_over_ && !enough(i, now_ns() - begun_ns); ++i) {
      const Fault fault = faults.next();
      report_.faults = i + 1;
      if (!under_load() || !rest(fault.pause_ns) || !commit(fault)) return false;
      if (!half && enough(2 * i, 2 * (now_ns() - begun_ns))) {
        half = true;
        report_.middle = Footprint::of_this_process();
      }
    }
    return true;
  }

  bool handed_over() const { return handed_over_; }
  /// The next primary serves: this one's workers finish.
  bool see_off() {
    leaving_ = true;
    return until("those to finish whom the next primary has not taken over", [this] { return cluster_->done(); });
  }

  /// Everything goes on, and what was begun comes to its end: with the workers and the policy of the start.
  bool calm() {
    halting_ = true;
    for (auto& undo : std::exchange(undos_, {})) undo.act();
    target_ = plan_.workers;
    const auto settled = [this] {
      const auto status = cluster_->status();
      return status.roll.state != lb::RollStatus::State::running && status.scaling.empty() && !changing(status) &&
             listening() >= target_;
    };
    if (!until("all to be calm", settled)) return false;
    if (!change_to(plan_.policy) || !scale_to(plan_.workers)) return false;
    return until("all to be as at the start", settled);
  }

  /// Serves on, until the clients have gone.
  bool linger(int stop_fd) {
    return until("clients to go", [=] {
      pollfd fd{stop_fd, POLLIN, 0};
      return ::poll(&fd, 1, 0) == 1;
    });
  }

  bool leave() {
    report_.late = Footprint::of_this_process();
    for (const auto& endpoint : cluster_->status().endpoints) report_.dropped += endpoint.lost;
    leaving_ = true;
    cluster_->shutdown();
    const bool done = until("the shutdown", [this] { return cluster_->done(); });
    cluster_.reset();
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
    return until("clients", [&] { return ledger_.completed >= enough || report_.halt; });
  }

  unsigned most() const { return std::min(kWorkersMax, plan_.workers + (plan_.workers + 1) / 2); }

  bool enough(unsigned faults, uint64_t elapsed_ns) const {
    pollfd stop{shared_.back(), POLLIN, 0};
    if (::poll(&stop, 1, 0) != 0) return true;  // nobody waits for the result any more
    const bool several = plan_.harm == Harm::chaos || plan_.harm == Harm::upgrade;
    if (report_.halt || ids_ + kIdsKept > (several ? Ledger::kWorkersOfOne : Ledger::kWorkersEver)) return true;
    return (plan_.faults && faults >= *plan_.faults) || (plan_.duration_ns != 0 && elapsed_ns >= plan_.duration_ns);
  }

  bool failed(const std::string& why) {
    if (report_.error[0] == '\0') put(report_.error, why);
    return false;
  }

  template <class... Arguments>
  void note(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    report_.chronicle.add(now_ns(), fmt::format(format, std::forward<Arguments>(arguments)...));
  }

  void note(const lb::Event& event) {
    switch (event.kind) {
      case Kind::exit:
        return note("worker {} exits: code {}, signal {}{}", first_ + event.worker, event.exit_code, event.signal,
                    event.expected ? ", as meant" : "");
      case Kind::listening:
        return note("worker {} listens", first_ + event.worker);
      case Kind::draining:
        return note("worker {} drains", first_ + event.worker);
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

  void on_event(const lb::Event& event) {
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
    if (event.kind != Kind::exit) return;
    staff_ns_ = 0;
    const bool by_us =
        event.worker < Ledger::kWorkersOfOne * Ledger::kPrimariesMax - first_ && line_of(event.worker).killed_ns != 0;
    if (by_us || event.expected) return;  // a rolling restart that has failed ends those that were starting
    // One that could not start, as there were no descriptors, in it or in the primary; keep_staffed tries again.
    const bool not_started = event.exit_code == EX_SOFTWARE && std::ranges::count(starved_workers_, event.worker) != 0;
    if (plan_.harm == Harm::chaos && event.signal == 0 && (event.exit_code == EMFILE || not_started)) return;
    if (report_.crashes++ == 0)
      put(report_.crash, fmt::format("worker {}: exit code {}, signal {}", event.worker, event.exit_code, event.signal));
  }

  /// Lets the cluster work until `condition` holds. False, with a report, when it does not within reason.
  bool until(const char* what, const std::function<bool()>& condition, uint64_t patience_ns = kPatienceNs) {
    const uint64_t deadline_ns = now_ns() + patience_ns;
    while (!condition()) {
      if (now_ns() > deadline_ns) return failed(fmt::format("waited in vain for {}\n{}", what, cluster_->status().to_string()));
      if (!turn(10)) return false;
    }
    return true;
  }

  bool rest(uint64_t pause_ns) {
    const uint64_t end_ns = now_ns() + pause_ns;
    for (uint64_t now = now_ns(); now < end_ns; now = now_ns())
      if (!turn(std::min<uint64_t>(10, (end_ns - now) / kMs))) return false;
    return true;
  }

  bool turn(uint64_t timeout_ms) {
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

  /// Starts those that are missing. Not by Options::respawn, whose pauses between crashes would be most of the time.
  void keep_staffed(uint64_t now) {
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

  unsigned listening() const {
    const auto workers = cluster_->workers();
    return static_cast<unsigned>(std::ranges::count(workers, lb::WorkerState::listening, &lb::WorkerStatus::state));
  }

  static bool changing(const lb::Status& status) {
    return std::ranges::any_of(status.endpoints, [](const auto& endpoint) { return !endpoint.changing.empty(); });
  }

  bool commit(const Fault& fault) {
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

  /// One of the workers; its pid is 0 if there is none.
  lb::WorkerStatus victim(uint64_t draw) const {
    const auto workers = cluster_->workers();
    return workers.empty() ? lb::WorkerStatus{} : workers[draw % workers.size()];
  }

  bool kill(uint64_t draw) {
    const auto worker = victim(draw);
    if (worker.pid <= 0) return true;
    if (draw / 1000 % 3 == 0) {
      note("stop worker {}, to be killed", first_ + worker.id);
      ::kill(worker.pid, SIGSTOP);
      if (!rest(draw / 3000 % 20 * kMs)) return false;
    }
    if (!cluster_->is_connected(worker.id) && cluster_->is_dead(worker.id)) return true;  // it left meanwhile
    note("kill worker {}", first_ + worker.id);
    line_of(worker.id).killed_ns = now_ns();
    ::kill(worker.pid, SIGKILL);
    if (plan_.harm == Harm::chaos) return true;
    // Mostly with all at work, sometimes while a replacement starts.
    const unsigned enough = draw / 60000 % 4 == 0 ? 1 : target_;
    return until("replacements", [&] { return cluster_->is_dead(worker.id) && listening() >= enough; });
  }

  void stop_for_a_while(uint64_t draw) {
    const auto worker = victim(draw);
    if (worker.pid <= 0) return;
    note("stop worker {}", first_ + worker.id);
    ::kill(worker.pid, SIGSTOP);
    undos_.push_back({now_ns() + (20 + draw / 1000 % 600) * kMs, [this, worker] {
                        note("worker {} goes on", first_ + worker.id);
                        if (!cluster_->is_dead(worker.id)) ::kill(worker.pid, SIGCONT);
                      }});
  }

  bool roll(uint64_t draw) {
    const bool chaos = plan_.harm == Harm::chaos;
    if (chaos && cluster_->status().roll.state == lb::RollStatus::State::running) return true;
    note("roll");
    const unsigned ended = rolls_ended_;
    const auto asked = cluster_->roll({.at_once = 1 + static_cast<unsigned>(draw % target_)});
    if (!asked) return failed(asked.error().message());
    return chaos || until("the rolling restart", [&] { return rolls_ended_ > ended; });
  }

  std::string next_policy(uint64_t draw) {
    if (plan_.harm == Harm::change) return tour_[changes_++ % tour_.size()];
    const size_t here = static_cast<size_t>(std::ranges::find(policies_, policy_) - policies_.begin());
    return policies_[(here + 1 + draw % (policies_.size() - 1)) % policies_.size()];
  }

  bool change_to(const std::string& policy) {
    if (policy == policy_) return true;
    const bool chaos = plan_.harm == Harm::chaos && !halting_;
    if (chaos && changing(cluster_->status())) return true;
    note("policy {} to {}", policy_, policy);
    const unsigned ended = changes_ended_;
    const auto asked = cluster_->set_policy(lb::Policy::parse(policy).value());
    if (!asked && chaos) {  // without descriptors it may be refused
      ++report_.changes_failed;
      return true;
    }
    if (!asked) return failed(fmt::format("{} to {}: {}", policy_, policy, asked.error().message()));
    policy_ = policy;
    return chaos || until("the change of policy", [&] { return changes_ended_ > ended; });
  }

  unsigned next_scale(uint64_t draw) const {
    const unsigned least = std::max(1U, plan_.workers / 2);
    return least + static_cast<unsigned>(draw % (most() - least + 1));
  }

  bool scale_to(unsigned workers) {
    note("scale to {}", workers);
    if (const auto asked = cluster_->scale(workers); !asked) return failed(asked.error().message());
    target_ = workers;
    if (plan_.harm == Harm::chaos && !halting_) return true;
    return until("the workers asked for", [&] {
      return cluster_->status().scaling.empty() && listening() == target_ && cluster_->workers().size() == target_;
    });
  }

  /// Under chaos it may be refused, while a roll or a change is under way, or come to nothing for want of descriptors.
  bool upgrade(uint64_t draw) {
    if (plan_.primary + 1 == Ledger::kPrimariesMax) return true;
    FaultServerPlan next = plan_;
    next.primary = plan_.primary + 1;
    next.policy_now = policy_;
    next.workers_now = target_;
    lb::Command command{.args = {kNextPrimary}, .env = {fmt::format("LB_SCHED_POLICY={}", policy_)}};
    for (const int fd : shared_) {
      fcntl(fd, F_SETFD, 0);
      command.args.push_back(std::to_string(fd));
    }
    for (auto& argument : next.to_arguments()) command.args.push_back(std::move(argument));
    note("upgrade");
    upgrade_failed_ = false;
    const auto asked = cluster_->upgrade(std::move(command));
    for (const int fd : shared_) fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (!asked && plan_.harm != Harm::chaos) return failed(asked.error().message());
    if (!asked) return true;
    if (plan_.harm == Harm::chaos && draw % 2 == 0 && !kill(draw / 2)) return false;
    if (!until(
            "the next primary", [this] { return handed_over_ || upgrade_failed_; }, 2 * kPatienceNs))
      return false;
    if (handed_over_) ++report_.done[static_cast<size_t>(FaultKind::upgrade)];
    return true;
  }

  WorkerLine& line_of(uint32_t id) const { return ledger_.workers[first_ + id]; }

  void starve_worker(uint64_t draw) {
    const auto worker = victim(draw);
    starved_workers_.push_back(worker.id);
    starve(worker.pid, draw);
  }

  /// Takes from the process the right to open any descriptor more; setrlimit(2).
  void starve(pid_t pid, uint64_t draw) {
    if (pid <= 0 || std::ranges::find(starved_, pid) != starved_.end()) return;
    rlimit before{};
    if (prlimit(pid, RLIMIT_NOFILE, nullptr, &before) != 0) return;
    const rlimit now{.rlim_cur = descriptors_of(pid), .rlim_max = before.rlim_max};
    if (prlimit(pid, RLIMIT_NOFILE, &now, nullptr) != 0) return;
    note("no descriptors for {}", pid == getpid() ? "the primary" : fmt::format("process {}", pid));
    starved_.push_back(pid);
    undos_.push_back({now_ns() + (20 + draw / 1000 % 300) * kMs, [this, pid, before] {
                        prlimit(pid, RLIMIT_NOFILE, &before, nullptr);  // if it is still there
                        std::erase(starved_, pid);
                      }});
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
  const std::vector<int> shared_;  // what the next primary needs: ledger, report, stop
  const uint32_t first_;           // what is added to a worker's id
  std::optional<lb::Cluster> cluster_;
  unsigned target_;
  const std::vector<std::string> policies_;
  const std::vector<std::string> tour_;
  std::string policy_;
  std::vector<Undo> undos_;
  std::vector<pid_t> starved_;
  std::vector<uint32_t> starved_workers_;  // ever
  uint64_t staff_ns_ = 0;
  unsigned rolls_ended_ = 0;
  unsigned changes_ = 0;
  unsigned changes_ended_ = 0;
  uint16_t port_ = 0;
  uint32_t ids_ = 0;
  bool took_over_ = false;
  bool handed_over_ = false;
  bool upgrade_failed_ = false;
  bool halting_ = false;
  bool leaving_ = false;
};

}  // namespace

Footprint Footprint::of_this_process() {
  malloc_trim(0);  // free memory that malloc keeps, some 10 MiB after libbpf has read the kernel's types, is no growth
  Footprint footprint{.descriptors = descriptors_of(getpid()) - 1, .memory_kib = 0};  // not the one that looks
  std::FILE* file = std::fopen("/proc/self/status", "re");
  if (file == nullptr) return footprint;
  std::array<char, 256> line;
  unsigned long kib = 0;
  while (std::fgets(line.data(), line.size(), file) != nullptr)
    if (std::sscanf(line.data(), "RssAnon: %lu", &kib) == 1) footprint.memory_kib = kib;
  std::fclose(file);
  return footprint;
}

std::vector<std::string> FaultServerPlan::to_arguments() const {
  return {policy,
          std::to_string(workers),
          std::to_string(static_cast<int>(model)),
          std::to_string(static_cast<int>(harm)),
          std::to_string(seed),
          faults ? std::to_string(*faults) : "",
          std::to_string(duration_ns),
          std::to_string(primary),
          policy_now,
          std::to_string(workers_now),
          std::to_string(static_cast<int>(work))};
}

FaultServerPlan FaultServerPlan::from_arguments(const std::vector<std::string>& arguments) {
  const auto number = [&](size_t at) { return std::stoull(arguments.at(at)); };
  return {.policy = arguments.at(0),
          .workers = static_cast<unsigned>(number(1)),
          .work = static_cast<Work>(number(10)),
          .model = static_cast<WorkerModel>(number(2)),
          .harm = static_cast<Harm>(number(3)),
          .seed = number(4),
          .faults = arguments.at(5).empty() ? std::nullopt : std::optional<unsigned>(static_cast<unsigned>(number(5))),
          .duration_ns = number(6),
          .primary = static_cast<uint32_t>(number(7)),
          .policy_now = arguments.at(8),
          .workers_now = static_cast<unsigned>(number(9))};
}

int run_fault_server(const FaultServerPlan& plan, const SharedArray<Ledger>& ledger, const SharedArray<FaultServerReport>& report,
                     int stop_fd) {
  // What is set for the user's own programs is not for this one.
  setenv("LB_SCHED_POLICY", (plan.primary == 0 ? plan.policy : plan.policy_now).c_str(), 1);
  FaultDriver driver(plan, ledger[0], report[0], {ledger.fd(), report.fd(), stop_fd});
  bool served = driver.start() && driver.harm();
  if (served && driver.handed_over()) return driver.see_off() ? 0 : 1;
  served = served && driver.calm();
  report[0].over = true;
  if (!served || !driver.linger(stop_fd)) return 1;
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
