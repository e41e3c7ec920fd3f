// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>

#include "options.hh"

namespace lbbench {

/// What the server under test is to be.
struct ServerPlan {
  std::string policy;
  unsigned workers;
  Work work;
  WorkerModel model;
  int64_t timer_error_ns;
  unsigned slow_workers;  ///< the first so many take `slowdown` times as long
  double slowdown;
  std::optional<unsigned> window;  ///< of round-robin, unless it is lb::Options' own
  bool stealing;                   ///< of reuseport, where the policy has any
  bool http;                       ///< answers HTTP, as the example server does
  bool datagrams;                  ///< answers datagrams
};

/// What the server tells about itself; lives in memory that it shares with the main process.
struct ServerReport {
  uint16_t port;
  pid_t primary_pid;  ///< 0: none
  uint32_t workers;
  std::array<uint32_t, kWorkersMax> worker_ids;
  std::array<pid_t, kWorkersMax> worker_pids;  ///< 0: no process of its own
  std::array<char, 64> effective;
  std::array<char, 64> rung;
  std::array<char, 512> reason;
  std::array<char, 512> error;  ///< why it could not start; empty if it could
  uint32_t crashed_workers;
};

/// Runs a cluster until `stop_fd` is readable or at its end, then drains it. One byte to `ready_fd` says that all
/// workers listen. For a process of its own, with one thread; gives its exit code.
int run_server(const ServerPlan& plan, ServerReport& report, int ready_fd, int stop_fd);

}  // namespace lbbench
