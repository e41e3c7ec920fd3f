// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lbbench {

/// Who decides when a connection begins: a clock that waits for nobody (open), or the end of an earlier one (closed).
enum class Load { open, closed };
enum class Law { fixed, exponential };

/// What a scenario does to the cluster while it serves (fault_plan.hh).
enum class Harm { none, crash, restart, change, scale, upgrade, chaos };

/// One kind of connection in a scenario's mix.
struct Service {
  double share;  ///< of all connections; the shares of a scenario add up to 1
  Law law;
  double mean_ms;
};

/// A load to measure under. To add one, add a row to the table in scenario.cc.
struct Scenario {
  std::string name;
  std::string sentence;
  std::string pain{};  ///< who wished for it: what users of other servers reported, and where
  Load load = Load::open;
  std::vector<Service> services;
  bool bursts = false;              ///< open: as many connections as workers begin at one instant; otherwise Poisson, one by one
  unsigned requests = 1;            ///< per connection; its service time is divided evenly among them
  bool each_request = false;        ///< closed: a request is what is measured, not a connection
  unsigned clients_per_worker = 0;  ///< closed: connections kept open
  double utilization = 0.7;         ///< open: of all workers, unless the user says otherwise
  double duration_s;                ///< counted part, unless the user says otherwise
  double compare_s = 0;             ///< the same when lbbench is run with no argument; 0: left out there
  double slow_share = 0;            ///< of the workers, rounded down: so many take `slowdown` times as long
  double slowdown = 1;
  bool http = false;              ///< can be asked for in HTTP too, beside peers
  unsigned flows_per_worker = 0;  ///< open: datagrams over UDP, of so many flows at a time
  unsigned steps = 0;  ///< open: the rate rises in so many equal steps up to the utilization, or to what a server cannot follow
  bool hangs = false;  ///< one worker is stopped for the middle third of the counted part
  /// Connections that a worker has open on average; they ask once, at the end of their lives, and those that are open at the end of
  /// the run all at once. Only that burst counts. 0: every connection asks as it begins.
  unsigned held_per_worker = 0;
  std::vector<Service> lives{};  ///< held: how long a connection is open
  Harm harm = Harm::none;        ///< then every connection is accounted for, and latency is of little interest
  unsigned faults = 0;           ///< how many, unless the user says otherwise; 0: for `duration_s`

  /// Mean of the mix.
  double mean_service_ms() const;
  double mean_life_ms() const;
  /// Whether the utilization says how many connections are offered.
  bool by_utilization() const { return load == Load::open && held_per_worker == 0; }
  /// Whether workers that serve one connection at a time can do it.
  bool serial_can() const { return held_per_worker == 0; }
};

std::span<const Scenario> scenarios();
/// Null when there is none of that name.
const Scenario* find_scenario(std::string_view name);
/// "connect, mixed, ...": for messages.
std::string scenario_names();

}  // namespace lbbench
