// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "trace.hh"

namespace lbbench {

enum class Command { compare, run, list, report, compare_files, model };
enum class Work { sleep, cpu };
enum class WorkerModel { serial, event_loop };

const char* to_string(Work work);
const char* to_string(WorkerModel model);

/// What `model` is asked.
struct ModelOptions {
  unsigned cores = 64;
  std::optional<double> rate_per_s;
  std::string scenario = "connect";
  std::optional<double> service_us;
  std::string file;  ///< results to take costs from, and to be checked against
  std::optional<double> worker_us, primary_us, pick_ns, pick_slot_ns, queue_us;
};

/// What the command line asks for. What is not given is the scenario's to say.
struct Options {
  Command command = Command::compare;
  std::vector<std::string> policies{"shared", "reuseport", "reuseport:hash", "round-robin"};
  std::vector<std::string> scenarios{"connect", "mixed", "few"};
  std::optional<unsigned> workers;
  std::optional<double> utilization;
  std::optional<double> duration_s;
  Work work = Work::sleep;
  std::optional<WorkerModel> worker_model;
  std::vector<std::string> peers;  ///< other servers, measured beside the policies over HTTP
  bool http = false;               ///< ask in HTTP; always with peers
  std::optional<unsigned> window;
  bool stealing = true;
  unsigned repeat = 1;
  uint64_t seed = 1;
  std::string json;          ///< a path, "-" for standard output, empty for none
  std::string csv;           ///< the same
  std::string html;          ///< the same
  std::string command_line;  ///< as it was given, to repeat it
  std::string file;          ///< report, compare_files: results to read
  std::string file_after;    ///< compare_files: those to compare with them
  double threshold_percent = 5;
  ModelOptions model;

  std::optional<unsigned> faults;  ///< scenarios that do harm: so many

  /// Policies, and those peers that can do the scenario's requests.
  std::vector<std::string> contenders(const Scenario& scenario) const;
  double duration_of(const Scenario& scenario) const;
  /// The scenario's, or, if that is more than this machine can offer, what it can.
  double utilization_of(const Scenario& scenario) const;
  /// What was asked for explicitly and is likely to be more than that.
  std::vector<std::string> warnings() const;
  /// 8 where service times are slept, so that a small machine can stand for a large one; else one for each CPU.
  unsigned workers_of(const Scenario& scenario) const;
  /// After how many faults a scenario that does harm ends; none: after its duration.
  std::optional<unsigned> faults_of(const Scenario& scenario) const;
  /// Serial where it can be: see `serial_can`.
  WorkerModel model_of(const Scenario& scenario) const;
};

constexpr unsigned kWorkersMax = 256;
constexpr double kTraceMax = 20e6;  ///< connections in one run

/// The command line is done with: print `text` and leave with `code`. 0 is help or version, 2 is wrong use.
struct Leave {
  int code;
  std::string text;
};

/// Checks everything that can be checked before the first run, except whether the JSON file can be written.
std::variant<Options, Leave> parse_options(int argc, const char* const* argv);

}  // namespace lbbench
