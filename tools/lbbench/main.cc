// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <lb/policy.hh>
#include <map>
#include <string_view>

#include "advice.hh"
#include "fault_driver.hh"
#include "file_commands.hh"
#include "host.hh"
#include "json_report.hh"
#include "options.hh"
#include "outputs.hh"
#include "peer_server.hh"
#include "progress.hh"
#include "report.hh"
#include "runner.hh"
#include "table.hh"
#include "terminal.hh"

namespace lbbench {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUse = 2;

volatile std::sig_atomic_t signal_caught = 0;

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = [](int signal) { signal_caught = signal; };
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void raise_descriptor_limit() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

void list() {
  struct Line {
    const char* policy;
    const char* sentence;
  };
  constexpr Line policies[] = {
      {"shared", "The workers share one socket; whoever is idle takes the next connection."},
      {"reuseport", "A socket for each worker; a program in the kernel picks the least loaded."},
      {"reuseport:p2c", "The same; the less loaded of two workers drawn at random."},
      {"reuseport:hermes", "The same; the hash of the addresses among those whom the workers let through (Hermes, SIGCOMM 2025)."},
      {"reuseport:random", "The same; any worker that is ready."},
      {"reuseport:hash", "A socket for each worker; the kernel's own hash of the addresses, blind to load."},
      {"round-robin", "The primary accepts and hands each connection to the next worker that has room."},
      {"round-robin:least-loaded", "The primary accepts and hands each connection to the least loaded worker."},
      {"auto", "reuseport where the kernel permits its program, else round-robin."},
  };
  fmt::print(
      "Scenarios, with --worker-model (both: serial and event-loop; loop: event-loop alone) and whether over HTTP too\n"
      "(there all servers are event loops). 1 to {} workers, --work sleep or cpu.\n",
      kWorkersMax);
  for (const auto& scenario : scenarios()) {
    fmt::print("  {:<12}{:<8}{:<5} {}\n", scenario.name, scenario.serial_can() ? "both" : "loop", scenario.http ? "yes" : "-",
               scenario.sentence);
    fmt::print("  {:<26}({})\n", "", scenario.pain);
  }
  fmt::print("\nPolicies, as in LB_SCHED_POLICY:\n");
  for (const auto& line : policies) fmt::print("  {:<26}{}\n", line.policy, line.sentence);
  fmt::print("\nPeers, over HTTP:\n");
  for (const auto& peer : peers()) fmt::print("  {:<26}{}\n", peer.name, peer.sentence);
}

using Programs = std::map<std::string, PeerProgram>;

/// The peers' programs on this machine. Those that cannot be run are told, and left out; false when there are any.
bool find_programs(Options& options, Programs& programs) {
  const auto cannot = [&](const std::string& name) {
    auto found = find_program(*find_peer(name));
    if (auto* program = std::get_if<PeerProgram>(&found)) return programs.emplace(name, std::move(*program)), false;
    fmt::print(stderr, "lbbench: peer {} is left out: {}\n", name, std::get<std::string>(found));
    return true;
  };
  return std::erase_if(options.peers, cannot) == 0;
}

/// Everything measured, in turn; what is printed goes to `out`.
class Session {
 public:
  Session(const Options& options, const Programs& programs, std::FILE* out)
      : options_(options), programs_(programs), out_(out), progress_(total_seconds()) {}

  void run() {
    print_head();
    for (const auto& name : options_.scenarios) {
      const Scenario& scenario = *find_scenario(name);
      const size_t first = results_.size();
      for (unsigned repeat = 1; repeat <= options_.repeat && signal_caught == 0; ++repeat) measure_all(scenario, repeat);
      progress_.clear();
      if (results_.size() > first)
        fmt::print(out_, "\n{}", report_scenario(scenario, options_, std::span(results_).subspan(first), bar_columns(out_)));
      std::fflush(out_);
      if (signal_caught != 0) break;
    }
    fmt::print(out_, "{}", advice_text(results_));
  }

  const Host& host() const { return host_; }
  const std::vector<RunResult>& results() const { return results_; }

  /// 1 when a run failed, a connection was lost or could not be made, or a worker crashed.
  int exit_code() const {
    if (failed_) return kFailed;
    for (const auto& run : results_) {
      if (run.lost.total() > 0 || run.generator.not_begun > 0 || run.crashed_workers > 0) return kFailed;
      if (run.faults && !run.faults->trouble.empty()) return kFailed;
    }
    return 0;
  }

 private:
  /// Null: a policy of ours.
  const PeerProgram* program_of(const std::string& name) const {
    const auto found = programs_.find(name);
    return found == programs_.end() ? nullptr : &found->second;
  }

  double count_of(const Scenario& scenario) const { return static_cast<double>(options_.contenders(scenario).size()); }

  double total_seconds() const {
    double sum_s = 0;
    for (const auto& name : options_.scenarios)
      sum_s += seconds_of(*find_scenario(name), options_) * count_of(*find_scenario(name));
    return sum_s * options_.repeat;
  }

  void print_head() {
    fmt::print(out_, "{}", wrap(host_.to_string(), "  "));
    if (options_.work == Work::sleep) fmt::print(out_, "{}", wrap("Timer: " + host_.timer_text() + ".", "  "));
    fmt::print(out_, "{}",
               wrap("* best. share: busiest worker over the mean. w us, p us: CPU time per connection of the workers "
                    "and of the "
                    "primary, user and system, warm-up included.",
                    "  "));
    std::fflush(out_);
  }

  /// Each repeat begins with another policy, so that none always runs on a machine just warmed or just tired.
  void measure_all(const Scenario& scenario, unsigned repeat) {
    const auto names = options_.contenders(scenario);
    const size_t count = names.size();
    for (size_t i = 0; i < count && signal_caught == 0; ++i) {
      const std::string& policy = names[(i + repeat - 1) % count];
      const std::string what = fmt::format("{}, {}, {} of {}", scenario.name, policy, repeat, options_.repeat);
      auto outcome = run_once({scenario, options_, policy, program_of(policy), repeat, *host_.timer}, [&](double elapsed_s) {
        progress_.show(done_s_ + elapsed_s, what);
        return signal_caught == 0;
      });
      done_s_ += seconds_of(scenario, options_);
      if (auto* result = std::get_if<RunResult>(&outcome)) results_.push_back(std::move(*result));
      if (const auto* failure = std::get_if<RunFailure>(&outcome)) {
        failed_ = true;
        progress_.clear();
        fmt::print(stderr, "lbbench: {} failed: {}\n", what, failure->why);
      }
    }
  }

  const Options& options_;
  const Programs& programs_;
  std::FILE* const out_;
  static Host host_and_timer() {
    Host host = Host::describe();
    host.timer = TimerError::measure();
    return host;
  }

  const Host host_ = host_and_timer();
  Progress progress_;
  std::vector<RunResult> results_;
  double done_s_ = 0;
  bool failed_ = false;
};

int measure_and_report(Options options) {
  auto opened = Outputs::open(options);
  if (const auto* wrong = std::get_if<std::string>(&opened)) {
    fmt::print(stderr, "lbbench: {}\n", *wrong);
    return kWrongUse;
  }
  auto& outputs = std::get<Outputs>(opened);
  catch_signals();
  raise_descriptor_limit();
  Programs programs;
  const bool complete = find_programs(options, programs);
  for (const auto& warning : options.warnings()) fmt::print(stderr, "lbbench: {}\n", warning);
  Session session(options, programs, outputs.take_stdout() ? stderr : stdout);
  session.run();
  int code = complete ? session.exit_code() : kFailed;
  if (const auto wrong = outputs.write(json_report(session.host(), options, session.results())); !wrong.empty()) {
    fmt::print(stderr, "lbbench: {}\n", wrong);
    code = kFailed;
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) code = kFailed;
  return signal_caught != 0 ? 128 + signal_caught : code;
}

int run(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == kNextPrimary) return run_next_fault_server(argc, argv);
  const auto parsed = parse_options(argc, argv);
  if (const auto* leave = std::get_if<Leave>(&parsed)) {
    fmt::print(leave->code == 0 ? stdout : stderr, "{}", leave->text);
    return leave->code;
  }
  const auto& options = std::get<Options>(parsed);
  switch (options.command) {
    case Command::list:
      list();
      return 0;
    case Command::report:
      return report_file(options);
    case Command::compare_files:
      return compare_files(options);
    case Command::model:
      return print_model(options);
    case Command::compare:
    case Command::run:
      break;
  }
  return measure_and_report(options);
}

}  // namespace
}  // namespace lbbench

int main(int argc, char** argv) {
  try {
    return lbbench::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "lbbench: {}\n", error.what());
    return 1;
  }
}
