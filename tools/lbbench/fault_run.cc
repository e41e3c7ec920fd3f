// SPDX-License-Identifier: MIT
#include "fault_run.hh"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <memory>
#include <system_error>

#include "child.hh"
#include "clock.hh"
#include "fault_driver.hh"
#include "fault_load.hh"
#include "fault_result.hh"
#include "shared_array.hh"

namespace lbbench {
namespace {

constexpr int kTickMs = 50;
constexpr size_t kLatencies = 1 << 18;
constexpr uint64_t kLoadEndNs = 40'000'000'000;
constexpr int kServerEndMs = 45'000;

class FaultRun {
 public:
  FaultRun(const RunPlan& plan, const Tick& tick)
      : plan_(plan), tick_(tick), workers_(plan.options.workers_of(plan.scenario)), ledger_(1), report_(1),
        latencies_ns_(kLatencies), begun_ns_(now_ns()) {}

  std::variant<RunResult, RunFailure, Interrupted> go() {
    prctl(PR_SET_CHILD_SUBREAPER, 1);  // of primaries that others have executed and handed over to
    start_server();
    if (!wait([this] { return report_[0].port != 0; })) return Interrupted{};
    if (servers_ended()) return RunFailure{report_[0].error[0] != '\0' ? report_[0].error.data() : "the server did not start"};
    start_load();
    const bool whole = wait([this] { return report_[0].over.load(); });
    if (!whole) {
      report_[0].halt = true;
      wait_for([this] { return report_[0].over.load(); }, kLoadEndNs);
    }
    const double seconds = static_cast<double>(now_ns() - load_ns_) / 1e9;
    ledger_[0].stop = true;
    wait_for([this] { return load_->ended(); }, kLoadEndNs);
    stop_.reset();
    wait_for([this] { return servers_ended(); }, kServerEndMs * uint64_t{1'000'000});
    return result_of(seconds, end_servers());
  }

 private:
  void start_server() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
    lb::UniqueFd read(fds[0]);
    stop_.reset(fds[1]);
    const Options& options = plan_.options;
    const Scenario& scenario = plan_.scenario;
    const auto duration_ns = static_cast<uint64_t>(options.duration_of(scenario) * 1e9);
    const FaultServerPlan server{.policy = plan_.policy,
                                 .workers = workers_,
                                 .work = options.work,
                                 .model = options.model_of(scenario),
                                 .harm = scenario.harm,
                                 .seed = seed(),
                                 .faults = options.faults_of(scenario),
                                 .duration_ns = options.faults_of(scenario) && !options.duration_s ? 0 : duration_ns};
    server_ = std::make_unique<Child>([&] {
      stop_.reset();
      return run_fault_server(server, ledger_, report_, read.get());
    });
  }

  void start_load() {
    load_ns_ = now_ns();
    const FaultLoadPlan load{.port = report_[0].port,
                             .clients = plan_.scenario.clients_per_worker * workers_,
                             .rude = plan_.scenario.harm == Harm::chaos,
                             .seed = seed(),
                             .ledger = &ledger_[0],
                             .latencies_ns = latencies_ns_.all()};
    load_ = std::make_unique<Child>([&] {
      stop_.reset();
      return run_fault_load(load);
    });
  }

  /// Every primary so far, each of which executed the next. They are ours once those that did so are gone.
  bool servers_ended() const {
    if (!server_->ended()) return false;
    for (; successors_ended_ + 1 < report_[0].primaries.size(); ++successors_ended_) {
      const pid_t pid = report_[0].primaries[successors_ended_ + 1];
      if (pid == 0) return true;
      int status = 0;
      if (waitpid(pid, &status, WNOHANG) != pid) return errno == ECHILD && ::kill(pid, 0) != 0;
      if (status != 0) failed_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    return true;
  }

  /// 0, or what one of them ended with that did not end well.
  int end_servers() const {
    const int code = server_->wait(0);
    while (!servers_ended()) {
      ::kill(report_[0].primaries[successors_ended_ + 1], SIGKILL);
      ::poll(nullptr, 0, kTickMs);
    }
    return code != 0 ? code : failed_code_;
  }

  uint64_t seed() const { return plan_.options.seed + plan_.repeat - 1; }

  /// Until `condition` holds or the server has ended. False when interrupted.
  template <class Condition>
  bool wait(const Condition& condition) const {
    while (!condition() && !servers_ended()) {
      ::poll(nullptr, 0, kTickMs);
      if (!tick_(static_cast<double>(now_ns() - begun_ns_) / 1e9)) return false;
    }
    return true;
  }

  template <class Condition>
  void wait_for(const Condition& condition, uint64_t patience_ns) const {
    const uint64_t deadline_ns = now_ns() + patience_ns;
    while (!condition() && now_ns() < deadline_ns) ::poll(nullptr, 0, kTickMs / 5);
  }

  RunResult result_of(double seconds, int server_code) const {
    RunResult result;
    result.scenario = plan_.scenario.name;
    result.policy = plan_.policy;
    result.workers = workers_;
    result.seed = seed();
    result.repeat = plan_.repeat;
    fill_in(result, ledger_[0], report_[0], seconds);
    auto& trouble = result.faults->trouble;
    if (server_code != 0) trouble.push_back(fmt::format("the server ended with code {}", server_code));
    if (!load_->ended()) trouble.emplace_back("the clients did not come to an end");
    std::vector<uint64_t> latencies_ns;
    for (const uint64_t latency_ns : latencies_ns_.all())
      if (latency_ns != 0) latencies_ns.push_back(latency_ns);
    result.latency = summarize(std::move(latencies_ns));
    return result;
  }

  const RunPlan& plan_;
  const Tick& tick_;
  const unsigned workers_;
  const SharedArray<Ledger> ledger_;
  const SharedArray<FaultServerReport> report_;
  const SharedArray<uint64_t> latencies_ns_;
  const uint64_t begun_ns_;
  uint64_t load_ns_ = 0;
  lb::UniqueFd stop_;
  std::unique_ptr<Child> server_;
  mutable size_t successors_ended_ = 0;
  mutable int failed_code_ = 0;
  std::unique_ptr<Child> load_;
};

}  // namespace

std::variant<RunResult, RunFailure, Interrupted> run_faults(const RunPlan& plan, const Tick& tick) {
  return FaultRun(plan, tick).go();
}

}  // namespace lbbench
