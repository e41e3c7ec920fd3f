// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "document.hh"
#include "statistics.hh"

namespace lbbench {

/// A figure that a prediction rests on.
struct ModelInput {
  const char* name;
  double value = 0;
  const char* unit;
  std::string source{};   ///< where it comes from, for people
  bool measured = false;  ///< on this user's machine; else assumed
};

/// What a connection costs, besides its service. All are CPU time.
struct ModelCosts {
  ModelInput worker_us{"worker", 25.0, "us", "README, connect under reuseport, 2 virtual CPUs"};
  ModelInput primary_us{"primary", 11.7, "us", "README, connect under round-robin, 2 virtual CPUs"};
  ModelInput pick_ns{"pick", 0, "ns", ""};
  ModelInput pick_slot_ns{"pick, each slot", 0, "ns", ""};
  ModelInput queue_us{"shared queue", 0, "us", ""};

  /// With the defaults that the project has measured.
  static ModelCosts assumed();
  /// Takes from a file of results what it has: the workers' and the primary's cost under `connect`.
  void take(const Document& document, const std::string& path);
  /// Takes what the command line gives.
  void take(const ModelOptions& options);
  std::vector<const ModelInput*> all() const { return {&worker_us, &primary_us, &pick_ns, &pick_slot_ns, &queue_us}; }
};

/// How a backend brings a connection to a worker: one at a time somewhere, and the rest on every core at once.
struct ModelBackend {
  const char* policy;
  double serial_us = 0;    ///< what only one core at a time can do for a connection
  double parallel_us = 0;  ///< what any core does, besides the service
  bool one_queue = true;   ///< a connection goes to whoever is idle first; else to a worker at random
  const char* limit;       ///< what the serial part is
};
std::vector<ModelBackend> model_backends(const ModelCosts& costs, unsigned cores);

/// Connections a second that `cores` can do, each with `service_us` of work of its own: they are all busy, or the serial part is.
double saturation_per_s(const ModelBackend& backend, unsigned cores, double service_us);

/// Latency at a rate: Poisson arrivals, first through the serial part as a queue with one server (M/D/1), then through the workers as the
/// simulated ideal has them (M/G/k); at random, each worker is a queue of its own. Empty above saturation.
std::optional<Latency> predict(const ModelBackend& backend, const Scenario& scenario, unsigned workers, double rate_per_s,
                               uint64_t seed);

/// Whether the model can say anything of it: workers that are alike and stay, one request for each connection, a rate that stays.
bool in_model(const Scenario& scenario);

/// A figure that the model gives, beside the same measured.
struct ModelCheck {
  std::string scenario;
  std::string policy;
  std::string figure;
  double predicted = 0;
  double measured = 0;
};
/// The model held against what a file of results has: p50 and p99 of open loops, and connections a second of `connect`.
std::vector<ModelCheck> check_model(const Document& document, const ModelCosts& costs);

/// The whole answer, as text: what it rests on, where each backend saturates, what a rate is like, and the check.
std::string model_report(const ModelOptions& options, const ModelCosts& costs, const Document* document);

}  // namespace lbbench
