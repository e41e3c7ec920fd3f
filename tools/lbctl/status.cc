// SPDX-License-Identifier: MIT
#include "status.hh"

#include <fmt/format.h>

#include <iterator>

namespace lbctl {
namespace {

void add_endpoint(std::string& text, const Endpoint& endpoint, const Snapshot& snapshot) {
  const auto out = std::back_inserter(text);
  const char* unit = endpoint.datagrams() ? " bytes" : "";
  fmt::format_to(out, "\n{}\n  policy {}\n  queued {}{}", endpoint.address, policy_text(endpoint), endpoint.queued, unit);
  if (endpoint.queue_age_ms != 0) fmt::format_to(out, ", oldest {} ms", endpoint.queue_age_ms);
  fmt::format_to(out, "; lost {}; retried {}", endpoint.lost, endpoint.retried);
  if (endpoint.bad_picks != 0) fmt::format_to(out, "; bad picks {}", endpoint.bad_picks);
  if (endpoint.strangers != 0) fmt::format_to(out, "; strangers {}", endpoint.strangers);
  if (endpoint.reattached != 0) fmt::format_to(out, "; program put back {}", endpoint.reattached);
  if (endpoint.stealing) fmt::format_to(out, "; idle workers steal");
  for (const char* before = "\n  picks by outcome: "; const auto& [name, count] : endpoint.outcomes) {
    if (count == 0) continue;
    fmt::format_to(out, "{}{} {}", before, name, count);
    before = ", ";
  }
  constexpr const char* kRow = "  {:>6} {:>8} {:<9} {:>9} {:>10} {:>8} {:>10} {:>6} {}\n";
  fmt::format_to(out, "\n");
  fmt::format_to(out, kRow, "WORKER", "PID", "STATE", "IN FLIGHT", "ACCEPTED", "BACKLOG", "PICKS", "WEIGHT", "HUNG");
  for (const auto& load : endpoint.workers) {
    const Worker* worker = snapshot.find(load.worker);
    if (worker == nullptr) continue;
    fmt::format_to(out, kRow, load.worker, worker->pid, worker->state, load_text(*worker), load.accepted, load.backlog, load.picks,
                   weight_text(*worker), load.hung ? "hung" : "-");
  }
}

bool listens_nowhere(const Worker& worker, const Snapshot& snapshot) {
  for (const auto& endpoint : snapshot.endpoints)
    if (endpoint.find(worker.id) != nullptr) return false;
  return true;
}

}  // namespace

std::string load_text(const Worker& worker) {
  return worker.reported == 0 ? std::to_string(worker.in_flight) : fmt::format("{}+{}", worker.in_flight, worker.reported);
}

std::string weight_text(const Worker& worker) {
  if (worker.weight_percent == 100) return std::to_string(worker.weight);
  return worker.weight == 1 ? fmt::format("{}%", worker.weight_percent)
                            : fmt::format("{}*{}%", worker.weight, worker.weight_percent);
}

std::string policy_text(const Endpoint& endpoint) {
  std::string text = fmt::format("{} ({})", endpoint.effective, endpoint.rung);
  if (endpoint.requested != endpoint.effective) text += ", requested " + endpoint.requested;
  if (!endpoint.reason.empty()) text += ": " + endpoint.reason;
  if (!endpoint.changing.empty()) text += "; changing " + endpoint.changing;
  if (!endpoint.not_changed.empty()) text += "; not changed to " + endpoint.not_changed;
  return text;
}

std::string status_text(const Snapshot& snapshot) {
  std::string text = fmt::format("primary {}, liblb {}, {}, {} worker{}\n", snapshot.primary.pid, snapshot.primary.version,
                                 snapshot.primary.state, snapshot.workers.size(), snapshot.workers.size() == 1 ? "" : "s");
  for (const auto& endpoint : snapshot.endpoints) add_endpoint(text, endpoint, snapshot);
  if (!snapshot.scaling.empty()) text += "\nscaling " + snapshot.scaling + "\n";
  if (const auto& upgrade = snapshot.upgrade; !upgrade.state.empty() && upgrade.state != "none")
    text +=
        fmt::format("\nupgrade to pid {}: {}{}\n", upgrade.pid, upgrade.state, upgrade.reason.empty() ? "" : ": " + upgrade.reason);
  for (const auto& worker : snapshot.workers) {
    if (!listens_nowhere(worker, snapshot)) continue;
    fmt::format_to(std::back_inserter(text), "\nworker {}, pid {}, {}: on no endpoint, {} in flight\n", worker.id, worker.pid,
                   worker.state, worker.in_flight);
  }
  return text;
}

}  // namespace lbctl
