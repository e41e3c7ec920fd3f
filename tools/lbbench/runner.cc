// SPDX-License-Identifier: MIT
#include "runner.hh"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <memory>
#include <numeric>
#include <system_error>
#include <vector>

#include "child.hh"
#include "clock.hh"
#include "datagram_generator.hh"
#include "fault_run.hh"
#include "generator.hh"
#include "machine_load.hh"
#include "measure.hh"
#include "ramp.hh"
#include "server.hh"
#include "shared_array.hh"

namespace lbbench {
namespace {

constexpr int kTickMs = 100;
constexpr int kHangLookMs = 5;
constexpr double kStartAndStopS = 0.2;
constexpr uint64_t kReadyNs = 35'000'000'000;
constexpr uint64_t kLeadNs = 20'000'000;          // from the forking of the generators to the run's time 0
constexpr uint64_t kOvertimeNs = 10'000'000'000;  // generators give each connection 5 s
constexpr int kServerStopMs = 5'000;
constexpr double kClosedRateMaxPerS = 300'000;  // of one generator: how many records to hold ready
constexpr unsigned kCpusPerGenerator = 4;

struct Pipe {
  lb::UniqueFd read;
  lb::UniqueFd write;

  static Pipe open() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
    return {lb::UniqueFd(fds[0]), lb::UniqueFd(fds[1])};
  }
};

/// Every generator's share of the trace, one connection in turn.
std::vector<Trace> deal(const Trace& trace, size_t hands) {
  std::vector<Trace> dealt(hands);
  for (size_t i = 0; i < trace.size(); ++i) dealt[i % hands].push_back(trace[i]);
  return dealt;
}

/// A worker that has been stopped, and will not stay so.
struct Stopped {
  pid_t pid = -1;
  uint64_t from_ns = 0;
  uint64_t to_ns = 0;

  void stop(pid_t worker, uint64_t now) {
    if (kill(worker, SIGSTOP) == 0) pid = worker;
    from_ns = now;
  }
  void go_on(uint64_t now) {
    if (pid > 0) kill(pid, SIGCONT);
    pid = -1;
    to_ns = now;
  }
  ~Stopped() { go_on(0); }
};

class Run {
 public:
  Run(const RunPlan& plan, const Tick& tick)
      : plan_(plan), tick_(tick), workers_(plan.options.workers_of(plan.scenario)),
        utilization_(plan.options.utilization_of(plan.scenario)), seed_(plan.options.seed + plan.repeat - 1),
        period_(period_of(plan.options.duration_of(plan.scenario))),
        fleet_(plan.calm ? calm(fleet_of(plan.scenario, workers_, period_)) : fleet_of(plan.scenario, workers_, period_)),
        trace_(make_trace(plan.scenario, workers_, utilization_, period_, seed_)), report_(1), stop_(1), began_ns_(now_ns()) {}

  ~Run() {
    generators_.clear();
    stopped_.go_on(0);
    stop_pipe_.write.reset();  // the server's sign to drain its workers
    if (server_) server_->wait(kServerStopMs);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  std::variant<RunResult, RunFailure, Interrupted> go() {
    start_server();
    if (auto outcome = wait_until_ready(); outcome.index() != 0) return outcome;
    prepare_records();
    start_generators();
    if (auto outcome = wait_for_generators(); outcome.index() != 0) return outcome;
    if (server_->ended()) return RunFailure{"the server ended during the run"};
    return measured();
  }

 private:
  static Fleet calm(Fleet fleet) {
    fleet.hang_from_ns = fleet.hang_to_ns = 0;
    return fleet;
  }

  using Outcome = std::variant<RunResult, RunFailure, Interrupted>;  // a RunResult here only means: go on

  bool tick() { return tick_(static_cast<double>(now_ns() - began_ns_) / 1e9); }

  void start_server() {
    Pipe ready = Pipe::open();
    stop_pipe_ = Pipe::open();
    const ServerPlan server{.policy = plan_.policy,
                            .workers = workers_,
                            .work = plan_.options.work,
                            .model = plan_.options.model_of(plan_.scenario),
                            .timer_error_ns = plan_.timer.median_ns,
                            .slow_workers = fleet_.slow,
                            .slowdown = fleet_.slowdown,
                            .window = plan_.options.window,
                            .stealing = plan_.options.stealing,
                            .http = plan_.options.http,
                            .datagrams = plan_.scenario.flows_per_worker > 0};
    server_ = std::make_unique<Child>([&] {
      stop_pipe_.write.reset();
      ready.read.reset();
      if (plan_.program != nullptr)
        return run_peer(*find_peer(plan_.policy), *plan_.program, workers_, report_[0], ready.write.get(), stop_pipe_.read.get());
      return run_server(server, report_[0], ready.write.get(), stop_pipe_.read.get());
    });
    stop_pipe_.read.reset();
    ready_ = std::move(ready.read);
  }

  Outcome wait_until_ready() {
    const uint64_t deadline_ns = now_ns() + kReadyNs;
    while (true) {
      pollfd fds[] = {{ready_.get(), POLLIN, 0}, {server_->fd(), POLLIN, 0}};
      ::poll(fds, 2, kTickMs);
      if ((fds[0].revents & POLLIN) != 0) return RunResult{};
      if (fds[1].revents != 0)
        return RunFailure{report_[0].error[0] != '\0' ? report_[0].error.data() : "the server ended before it was ready"};
      if (now_ns() > deadline_ns) return RunFailure{"the server was not ready after 35 s"};
      if (!tick()) return Interrupted{};
    }
  }

  void prepare_records() {
    const unsigned cpus = std::max(1U, static_cast<unsigned>(sysconf(_SC_NPROCESSORS_ONLN)));
    const size_t generators = std::clamp(cpus / kCpusPerGenerator, 1U, 16U);
    traces_ = deal(trace_, generators);
    const bool closed = plan_.scenario.load == Load::closed;
    const auto closed_records = static_cast<size_t>(kClosedRateMaxPerS * static_cast<double>(period_.end_ns) / 1e9);
    size_t sum = 0;
    for (const auto& trace : traces_) counts_.push_back(closed ? closed_records : trace.size());
    sum = std::accumulate(counts_.begin(), counts_.end(), sum);
    records_ = std::make_unique<SharedArray<Record>>(sum);
  }

  void start_generators() {
    const unsigned clients = (plan_.scenario.clients_per_worker + plan_.scenario.flows_per_worker) * workers_;
    worker_pids_.assign(report_[0].worker_pids.begin(), report_[0].worker_pids.begin() + report_[0].workers);
    std::erase(worker_pids_, 0);
    if (report_[0].primary_pid > 0) primary_pid_ = {report_[0].primary_pid};
    workers_cpu_ns_ = cpu_ns(worker_pids_);
    primary_cpu_ns_ = cpu_ns(primary_pid_);
    generators_cpu_ns_ = ended_children_cpu_ns();
    machine_ = MachineLoad::now();
    const uint64_t origin_ns = origin_ns_ = now_ns() + kLeadNs;
    auto rest = records_->all();
    for (size_t i = 0; i < traces_.size(); ++i) {
      const auto share = static_cast<unsigned>(clients * (i + 1) / traces_.size() - clients * i / traces_.size());
      const GeneratorPlan generator{.port = report_[0].port,
                                    .origin_ns = origin_ns,
                                    .end_ns = period_.end_ns,
                                    .trace = traces_[i],
                                    .clients = plan_.scenario.load == Load::closed ? share : 0,
                                    .requests = plan_.scenario.requests,
                                    .each_request = plan_.scenario.each_request,
                                    .records = rest.first(counts_[i]),
                                    .stop = &stop_[0],
                                    .http = plan_.options.http,
                                    .work = plan_.options.work,
                                    .service_less_ns = sleep_error_ns()};
      rest = rest.subspan(counts_[i]);
      generators_.push_back(std::make_unique<Child>([&] {
        return plan_.scenario.flows_per_worker > 0 ? DatagramGenerator(generator, share).run() : Generator(generator).run();
      }));
    }
  }

  /// Whoever sleeps through a timer of the machine's ends so late; the workers of our own protocol know it themselves.
  uint64_t sleep_error_ns() const {
    return plan_.options.work == Work::sleep ? static_cast<uint64_t>(std::max<int64_t>(plan_.timer.median_ns, 0)) : 0;
  }

  Outcome wait_for_generators() {
    const uint64_t deadline_ns = now_ns() + period_.end_ns + kOvertimeNs;
    for (auto& generator : generators_) {
      while (!generator->ended()) {
        pollfd fd{generator->fd(), POLLIN, 0};
        ::poll(&fd, 1, hang_and_go_on());
        const bool go_on = tick();
        if (!go_on || now_ns() > deadline_ns || ramp_is_over()) stop_[0].store(true);
        if (!go_on) return Interrupted{};
        if (now_ns() > deadline_ns) return RunFailure{never_ended()};
      }
      if (const int code = generator->wait(0); code != 0)
        return RunFailure{fmt::format("the generator failed with exit code {}", code)};
    }
    return RunResult{};
  }

  std::string never_ended() const {
    const auto begun = std::ranges::count_if(records_->all(), [](const Record& record) { return record.intended_ns != 0; });
    if (plan_.scenario.load == Load::closed) return "the generator did not come to an end";
    return fmt::format(
        "the generator had begun {} of {} connections 10 s after the last was due: the load is more than this machine can do",
        begun, trace_.size());
  }

  /// A ramp ends with the first step at whose end the server has fallen behind.
  bool ramp_is_over() {
    const unsigned steps = plan_.scenario.steps;
    const uint64_t now = now_ns() - origin_ns_;
    if (ramp_end_ns_ != 0 || step_ >= steps || now < kTickMs * 1'000'000ULL + step_begin_ns(period_, steps, step_ + 1) ||
        now > period_.end_ns + kOvertimeNs)
      return ramp_end_ns_ != 0;
    if (fell_behind(records_->all(), period_, steps, step_++, workers_)) ramp_end_ns_ = now;
    return ramp_end_ns_ != 0;
  }

  /// Stops a worker and lets it go on, when it is time. Gives how many ms to wait until the next look.
  int hang_and_go_on() {
    if (!fleet_.hangs()) return kTickMs;
    const uint64_t now = now_ns() - origin_ns_;  // wraps before the origin: then nothing is due
    if (now > period_.end_ns + kOvertimeNs) return kHangLookMs;
    if (stopped_.from_ns == 0 && now >= fleet_.hang_from_ns && now < fleet_.hang_to_ns) stopped_.stop(worker_pids_.back(), now);
    if (stopped_.to_ns == 0 && stopped_.from_ns != 0 && now >= fleet_.hang_to_ns) stopped_.go_on(now);
    return kHangLookMs;
  }

  RunResult measured() {
    const Period counted = counted_period(plan_.scenario, period_);
    const ServerReport& report = report_[0];
    RunResult result;
    result.scenario = plan_.scenario.name;
    result.policy = plan_.policy;
    result.effective = report.effective.data();
    result.rung = report.rung.data();
    result.fallback = report.reason.data();
    if (plan_.program != nullptr) result.peer_version = plan_.program->version;
    result.http = plan_.options.http;
    result.workers = workers_;
    result.seed = seed_;
    result.repeat = plan_.repeat;
    result.crashed_workers = report.crashed_workers;
    if (plan_.scenario.load == Load::open) {
      if (utilization_ > 0) result.utilization = utilization_;
      measure_ideal(trace_, counted, fleet_, result);
    }
    const auto all = records_->all();
    const uint32_t last_id = report.worker_ids[report.workers - 1];
    const auto stopped = fleet_.hangs() ? std::optional(last_id) : std::nullopt;
    measure(all, counted, {report.worker_ids.data(), report.workers}, result, stopped);
    if (stopped_.to_ns != 0) result.hang = measure_hang(all, period_, last_id, stopped_.from_ns, stopped_.to_ns);
    if (plan_.scenario.steps > 0) {
      const uint64_t end_ns = ramp_end_ns_ != 0 ? ramp_end_ns_ : period_.end_ns;
      result.ramp = measure_ramp(all, trace_, fleet_, period_, plan_.scenario.steps, end_ns);
      result.throughput_per_s = std::ranges::max(result.ramp, {}, &RampStep::throughput_per_s).throughput_per_s;
      result.ideal.reset();  // of the trace's end, which the run need not have reached; the steps have theirs
    }
    if (plan_.scenario.bursts) result.used_per_burst = used_per_burst(all, period_, workers_);
    const uint64_t workers_ns = cpu_ns(worker_pids_) - workers_cpu_ns_;
    const uint64_t primary_ns = cpu_ns(primary_pid_) - primary_cpu_ns_;
    const uint64_t generators_ns = ended_children_cpu_ns() - generators_cpu_ns_;
    result.generator.cpu = static_cast<double>(generators_ns) / static_cast<double>(traces_.size() * (now_ns() - origin_ns_));
    result.others_cpu = others_part(machine_, MachineLoad::now(), workers_ns + primary_ns + generators_ns);
    if (const auto answered = std::ranges::count(all, lbbench::Outcome::answered, &Record::outcome); answered > 0) {
      const double ns_per_us = 1e3 * static_cast<double>(answered);
      result.cpu.workers_us = static_cast<double>(workers_ns) / ns_per_us;
      result.cpu.primary_us = static_cast<double>(primary_ns) / ns_per_us;
      result.cpu.generator_us = static_cast<double>(generators_ns) / ns_per_us;
    }
    return result;
  }

  const RunPlan& plan_;
  const Tick& tick_;
  const unsigned workers_;
  const double utilization_;
  const uint64_t seed_;
  const Period period_;
  const Fleet fleet_;
  const Trace trace_;
  const SharedArray<ServerReport> report_;
  const SharedArray<std::atomic<bool>> stop_;
  const uint64_t began_ns_;
  Pipe stop_pipe_;
  lb::UniqueFd ready_;
  std::unique_ptr<Child> server_;
  std::vector<Trace> traces_;
  std::vector<size_t> counts_;
  std::unique_ptr<SharedArray<Record>> records_;
  uint64_t origin_ns_ = 0;
  unsigned step_ = 0;         ///< of a ramp: the next to be looked at
  uint64_t ramp_end_ns_ = 0;  ///< when it was seen that the server had fallen behind
  Stopped stopped_;
  std::vector<pid_t> worker_pids_;
  std::vector<pid_t> primary_pid_;  ///< none, or one
  uint64_t workers_cpu_ns_ = 0;
  uint64_t primary_cpu_ns_ = 0;
  uint64_t generators_cpu_ns_ = 0;
  MachineLoad machine_;
  std::vector<std::unique_ptr<Child>> generators_;
};

}  // namespace

std::variant<RunResult, RunFailure, Interrupted> run_once(const RunPlan& plan, const Tick& tick) {
  try {
    if (plan.scenario.harm != Harm::none) return run_faults(plan, tick);
    if (!plan.scenario.hangs || plan.calm) return Run(plan, tick).go();
    RunPlan without = plan;
    without.calm = true;
    auto calm = Run(without, tick).go();
    if (calm.index() != 0) return calm;
    auto outcome = Run(plan, tick).go();
    if (auto* result = std::get_if<RunResult>(&outcome); result != nullptr && result->hang)
      result->hang->without = std::get<RunResult>(calm).latency;
    return outcome;
  } catch (const std::exception& error) {
    return RunFailure{error.what()};
  }
}

double seconds_of(const Scenario& scenario, const Options& options) {
  if (scenario.harm != Harm::none && !options.duration_s && options.faults && scenario.faults > 0)
    return scenario.duration_s * *options.faults / scenario.faults;
  const double once_s = static_cast<double>(period_of(options.duration_of(scenario)).end_ns) / 1e9 + kStartAndStopS;
  return scenario.hangs ? 2 * once_s : once_s;
}

}  // namespace lbbench
