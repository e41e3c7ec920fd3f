// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "histogram.hh"
#include "statistics.hh"

namespace lbbench {

struct Lost {
  uint64_t refused = 0;
  uint64_t reset = 0;
  uint64_t timeout = 0;
  uint64_t total() const { return refused + reset + timeout; }
};

/// CPU time, user and system, of all threads of the processes named, from just before the first connection to just
/// after the last, warm-up included, divided by all connections answered in that time.
struct CpuPerConnection {
  double workers_us = 0;  ///< under --work cpu the service itself is part of it
  double primary_us = 0;
  double generator_us = 0;  ///< of what makes the connections, which has the same CPUs
};

/// How well the generator kept up: if badly, the other figures say little about the server.
struct GeneratorHealth {
  double late_p99_ms = 0;
  double late_max_ms = 0;
  uint64_t not_begun = 0;
  double cpu = 0;  ///< part of one CPU that each generator used: near 1 it is the limit, not the server
};

/// One step of a ramp.
struct RampStep {
  double offered_per_s = 0;
  double throughput_per_s = 0;  ///< of those that began in this step, answered before its end
  Latency latency;              ///< of those that began in this step
  Latency ideal{};
};

/// How much longer than asked a worker was busy with a connection: what the machine's timers and other load add.
struct ServiceError {
  double median = 0;
  double mean = 0;
};

/// What a stopped worker did to the others.
struct HangResult {
  uint32_t worker = 0;
  double stopped_s = 0;
  uint64_t sent_after_notice =
      0;              ///< came 0.2 s or more after the stop and before the end, and waited for that worker all the same
  Latency without{};  ///< of all connections of a run just before in which no worker was stopped
  Latency others{};   ///< of all connections that other workers served, those it left waiting among them
};

/// What was done to a cluster, and what it cost.
struct FaultResult {
  std::vector<std::pair<std::string, uint64_t>> done;  ///< "kills", "rolls", ...: how many of each, none left out but those of none
  uint64_t begun = 0;                                  ///< connections; each is completed, left, with_worker, in_accept or lost
  uint64_t left = 0;                                   ///< by the client, as it was meant to
  uint64_t with_worker = 0;                            ///< lost, as it must be, with a worker that was killed and had accepted it
  uint64_t in_accept = 0;                              ///< the same, but the worker died inside its call for it
  uint64_t taken_twice = 0;                            ///< by two workers
  uint64_t dropped = 0;                                ///< liblb's own count (EndpointStatus::lost)
  uint64_t workers_ever = 0;
  uint64_t upgrades_failed = 0;
  uint64_t rolls_failed = 0;
  uint64_t changes_failed = 0;
  uint64_t left_over = 0;             ///< child processes that were there after the end
  std::vector<unsigned> descriptors;  ///< of the primary, at the beginning, when half was done (under load), and at the end
  std::vector<uint64_t> memory_kib;   ///< the same: anonymous memory
  std::vector<std::string> trouble;   ///< what must not be, a line each
  double seconds = 0;
};

/// One policy, or peer, in one repeat of one scenario.
struct RunResult {
  std::string scenario;
  std::string policy;     ///< as the user wrote it; a peer's name
  std::string effective;  ///< in force, in lb::Policy's own spelling
  std::string rung;
  std::string fallback;      ///< why it is not what was asked for, or not the best way to it; empty if it is
  std::string peer_version;  ///< as the program tells it; empty: this is liblb
  bool http = false;         ///< requests in HTTP, answered by a server in HTTP
  double answer_bytes = 0;   ///< http: of one answer, head and body, on average
  unsigned workers = 0;
  std::optional<double> utilization;  ///< open loop only
  uint64_t seed = 0;                  ///< of this repeat's trace
  unsigned repeat = 0;                ///< from 1
  uint64_t offered = 0;
  uint64_t completed = 0;
  Lost lost;
  double throughput_per_s = 0;
  Latency latency;
  Histogram histogram;           ///< of the same latencies
  std::optional<Latency> ideal;  ///< open loop only
  Histogram ideal_histogram;
  Share share;
  CpuPerConnection cpu;
  GeneratorHealth generator;
  ServiceError service_error_us;
  std::optional<double> used_per_burst;  ///< bursts only: share of the workers that a burst reached, 1 is all of them
  std::optional<HangResult> hang;
  std::optional<FaultResult> faults;
  std::vector<RampStep> ramp;  ///< ramp only: in the order of their rates, up to the first that the server could not follow
  double others_cpu = 0;       ///< part of the machine's CPU time that other programs took meanwhile, 0 to 1
  unsigned crashed_workers = 0;
};

}  // namespace lbbench
