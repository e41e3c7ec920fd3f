// SPDX-License-Identifier: MIT
#include "options.hh"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <lb/policy.hh>
#include <lb/version.hh>
#include <map>
#include <sstream>

#include "file_commands.hh"
#include "peer.hh"
#include "reach.hh"

namespace lbbench {
namespace {

template <class Choice>
using Choices = std::map<std::string, Choice>;

const Choices<Work> kWork{{"sleep", Work::sleep}, {"cpu", Work::cpu}};
const Choices<WorkerModel> kWorkerModels{{"serial", WorkerModel::serial}, {"event-loop", WorkerModel::event_loop}};

std::string check_policy(const std::string& name) {
  const auto policy = lb::Policy::parse(name);
  return policy ? "" : fmt::format("unknown policy \"{}\"; one of: {}", name, lb::policy_names());
}

std::string check_scenario(const std::string& name) {
  if (find_scenario(name) != nullptr) return "";
  return fmt::format("unknown scenario \"{}\"; one of: {}", name, scenario_names());
}

std::string check_peer(const std::string& name) {
  return find_peer(name) != nullptr ? "" : fmt::format("unknown peer \"{}\"; one of: {}", name, peer_names());
}

/// CLI::Range lets NaN through.
template <class Number>
CLI::Validator within(Number least, Number most) {
  const auto check = [=](const std::string& text) -> std::string {
    Number number{};
    if (CLI::detail::lexical_cast(text, number) && number >= least && number <= most) return "";
    return fmt::format("\"{}\" is not a number from {} to {}", text, least, most);
  };
  return {check, ""};
}

/// CLI11 reads "-1" as a huge unsigned number.
std::string check_seed(const std::string& text) {
  uint64_t seed = 0;
  if (!text.starts_with('-') && CLI::detail::lexical_cast(text, seed)) return "";
  return fmt::format("\"{}\" is not a whole number from 0 to 2^64 - 1", text);
}

/// An option that takes one of a few words; CLI11's own transformer also takes, and talks of, the enum's numbers.
template <class Choice, class Chosen>
void add_choice(CLI::App& app, const char* name, Chosen& chosen, Choice standard, const Choices<Choice>& choices,
                const char* description) {
  std::vector<std::string> words;
  for (const auto& [word, choice] : choices) words.push_back(word);
  const auto check = [&choices, words](const std::string& text) -> std::string {
    return choices.contains(text) ? "" : fmt::format("unknown word \"{}\"; one of: {}", text, fmt::join(words, ", "));
  };
  app.add_option_function<std::string>(
         name, [&](const std::string& text) { chosen = choices.at(text); }, description)
      ->type_name(fmt::format("{}", fmt::join(words, "|")))
      ->check(CLI::Validator(check, ""))
      ->default_str(to_string(standard));
}

/// Which scenario would need a trace too long to hold, if any.
std::string check_trace(const Options& options) {
  for (const auto& name : options.scenarios) {
    const Scenario& scenario = *find_scenario(name);
    if (scenario.load == Load::closed) continue;
    const double rate_per_s = arrival_rate_per_s(scenario, options.workers_of(scenario), options.utilization_of(scenario));
    const double most_s = kTraceMax / rate_per_s;
    if (options.duration_of(scenario) > most_s)
      return fmt::format("--duration: {:g} s of {} at {:.0f} connections/s is too long to record; at most {:.0f} s",
                         options.duration_of(scenario), name, rate_per_s, most_s);
  }
  return "";
}

/// Which scenario is asked for at a utilization that this machine cannot reach, if any.
std::string check_utilization(const Options& options) {
  if (!options.utilization) return "";
  for (const auto& name : options.scenarios) {
    const Scenario& scenario = *find_scenario(name);
    const Reach reach(scenario, options.workers_of(scenario), options.work);
    if (auto wrong = reach.refusal(*options.utilization); !wrong.empty()) return wrong;
  }
  return "";
}

/// Which scenario cannot be asked for in HTTP, or has nobody to do it, if any.
std::string check_http(const Options& options) {
  if (!options.http) return "";
  std::vector<std::string_view> able;
  for (const auto& scenario : scenarios())
    if (scenario.http) able.push_back(scenario.name);
  for (const auto& name : options.scenarios) {
    if (!find_scenario(name)->http)
      return fmt::format("--scenario: {} cannot be had over HTTP; those that can: {}", name, fmt::join(able, ", "));
  }
  return "";
}

/// Which scenario is asked for with workers that it cannot have, if any.
std::string check_worker_model(const Options& options) {
  if (options.worker_model != WorkerModel::serial) return "";
  if (options.http)
    return "--worker-model: serial cannot be had over HTTP, where all servers are event loops; leave it out, or --http";
  std::vector<std::string_view> able;
  for (const auto& scenario : scenarios())
    if (scenario.serial_can()) able.push_back(scenario.name);
  for (const auto& name : options.scenarios)
    if (!find_scenario(name)->serial_can())
      return fmt::format("--worker-model: serial workers cannot hold the connections of {} open; event-loop can; with serial: {}",
                         name, fmt::join(able, ", "));
  return "";
}

void add_run(CLI::App& app, Options& options) {
  auto* run = app.add_subcommand("run", "Measure chosen policies under chosen scenarios");
  run->add_option("--policy", options.policies, "Policies, comma-separated: " + lb::policy_names())
      ->delimiter(',')
      ->type_name("P,...")
      ->check(CLI::Validator(check_policy, ""))
      ->capture_default_str();
  run->add_option("--scenario", options.scenarios, "Scenarios, comma-separated: " + scenario_names())
      ->delimiter(',')
      ->type_name("S,...")
      ->check(CLI::Validator(check_scenario, ""))
      ->capture_default_str();
  run->add_option("--workers", options.workers, "Worker processes (default: 8; with --work cpu, and for connect, the CPUs)")
      ->type_name("N")
      ->check(within(1U, kWorkersMax));
  run->add_option("--utilization", options.utilization, "Of all workers, 0.01 to 1.5 (default: the scenario's)")
      ->type_name("U")
      ->check(within(0.01, 1.5));
  run->add_option("--duration", options.duration_s, "Seconds counted for each policy (default: the scenario's)")
      ->type_name("SEC")
      ->check(within(0.1, 3600.0));
  add_choice(*run, "--work", options.work, options.work, kWork,
             "How a worker spends a service time; sleep models many cores on few");
  add_choice(*run, "--worker-model", options.worker_model, WorkerModel::serial, kWorkerModels, "How a worker takes connections");
  run->add_option("--peers", options.peers, "Other servers to measure beside liblb, over HTTP, comma-separated: " + peer_names())
      ->delimiter(',')
      ->type_name("P,...")
      ->check(CLI::Validator(check_peer, ""));
  run->add_flag("--http", options.http, "Ask in HTTP and let liblb's example HTTP server answer; --peers does too");
  run->add_option("--window", options.window,
                  "Round-robin: connections handed to a worker that it has not taken (default: the library's)")
      ->type_name("N")
      ->check(within(1U, 32U));
  run->add_flag("!--no-stealing", options.stealing, "Reuseport: idle workers leave alone what waits at busy ones");
  run->add_option("--repeat", options.repeat, "Measure all of it K times, policies in turn; medians are shown")
      ->type_name("K")
      ->check(within(1U, 1000U))
      ->capture_default_str();
  run->add_option("--seed", options.seed, "Of the first repeat's arrivals; the next repeat takes the next")
      ->type_name("N")
      ->check(CLI::Validator(check_seed, ""))
      ->capture_default_str();
  run->add_option("--faults", options.faults, "Kills, rolls, changes of policy or number: so many (default: the scenario's)")
      ->type_name("N")
      ->check(within(1U, 100'000U));
  run->add_flag("--chaos")->description("Short for --scenario chaos");
  run->add_option("--json", options.json,
                  "Write every run's figures to F; - is standard output, and the tables go to standard error")
      ->type_name("F");
  add_outputs(*run, options);
  run->final_callback([&options, run] {
    options.command = Command::run;
    if (run->count("--chaos") > 0) options.scenarios = {"chaos"};
    options.http |= !options.peers.empty();
    for (const auto& wrong : {check_utilization(options), check_trace(options), check_http(options), check_worker_model(options)})
      if (!wrong.empty()) throw CLI::ValidationError(wrong);
  });
}

}  // namespace

const char* to_string(Work work) { return work == Work::sleep ? "sleep" : "cpu"; }
const char* to_string(WorkerModel model) { return model == WorkerModel::serial ? "serial" : "event-loop"; }

std::vector<std::string> Options::contenders(const Scenario& scenario) const {
  auto names = policies;
  for (const auto& name : peers)
    if (scenario.mean_service_ms() == 0 || find_peer(name)->sleeps) names.push_back(name);
  return names;
}

double Options::duration_of(const Scenario& scenario) const {
  return duration_s.value_or(command == Command::compare ? scenario.compare_s : scenario.duration_s);
}

double Options::utilization_of(const Scenario& scenario) const {
  if (utilization || !scenario.by_utilization()) return utilization.value_or(scenario.utilization);
  return std::min(scenario.utilization, Reach(scenario, workers_of(scenario), work).utilization());
}

std::vector<std::string> Options::warnings() const {
  std::vector<std::string> all;
  if (!utilization) return all;
  for (const auto& name : scenarios) {
    const Scenario& scenario = *find_scenario(name);
    if (auto warning = Reach(scenario, workers_of(scenario), work).warning(*utilization); !warning.empty())
      all.push_back(std::move(warning));
  }
  return all;
}

unsigned Options::workers_of(const Scenario& scenario) const {
  const bool slept = work == Work::sleep && scenario.mean_service_ms() > 0;
  return workers.value_or(slept ? 8 : std::min(std::max(cpu_count(), 2U), kWorkersMax));
}

std::optional<unsigned> Options::faults_of(const Scenario& scenario) const {
  if (faults || duration_s || scenario.faults == 0) return faults;
  return scenario.faults;
}

WorkerModel Options::model_of(const Scenario& scenario) const {
  return !scenario.serial_can() || http ? WorkerModel::event_loop : worker_model.value_or(WorkerModel::serial);
}

std::variant<Options, Leave> parse_options(int argc, const char* const* argv) {
  Options options;
  CLI::App app(
      "Compares liblb's policies on this machine, beside a simulated ideal. Without a command: all of them, in about a "
      "minute.",
      "lbbench");
  app.set_version_flag("--version", std::string("lbbench ") + LB_VERSION);
  app.require_subcommand(0, 1);
  app.footer("Exit code: 0; 1 when a run failed or a connection was lost; 2 for wrong use; 130 after Ctrl-C.");
  add_run(app, options);
  add_file_commands(app, options);
  app.add_subcommand("list", "Scenarios and policies, a sentence each")->final_callback([&] { options.command = Command::list; });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream err;
    if (app.exit(error, out, err) == 0) return Leave{0, out.str()};
    return Leave{2, fmt::format("lbbench: {}", err.str())};
  }
  if (options.command == Command::compare) {
    options.repeat = 2;
    std::erase_if(options.scenarios, [](const auto& name) { return find_scenario(name)->compare_s == 0; });
  }
  options.command_line = in_shell_words(argc, argv);
  return options;
}

}  // namespace lbbench
