// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>
#include <variant>

#include "options.hh"
#include "peer_server.hh"
#include "result.hh"
#include "work.hh"

namespace lbbench {

/// One policy, one scenario, one repeat.
struct RunPlan {
  const Scenario& scenario;
  const Options& options;
  std::string policy;          ///< or a peer's name
  const PeerProgram* program;  ///< the peer's; null: a policy
  unsigned repeat;             ///< from 1
  TimerError timer;
  bool calm = false;  ///< nobody is stopped, whatever the scenario says
};

struct RunFailure {
  std::string why;
};
struct Interrupted {};

/// Called every 0.1 s or so with the seconds since the start of the run; false ends it.
using Tick = std::function<bool(double)>;

/// Starts a server, ours or a peer, and the generators in processes of their own, lets the run take its time, and measures. Where the scenario stops
/// a worker, the same without the stop comes first.
std::variant<RunResult, RunFailure, Interrupted> run_once(const RunPlan& plan, const Tick& tick);

/// How long `run_once` takes, about.
double seconds_of(const Scenario& scenario, const Options& options);

}  // namespace lbbench
