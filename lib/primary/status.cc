// SPDX-License-Identifier: MIT
#include <lb/status.hh>

namespace lb {

const char* to_string(WorkerState state) noexcept {
  switch (state) {
    case WorkerState::spawned:
      return "spawned";
    case WorkerState::online:
      return "online";
    case WorkerState::listening:
      return "listening";
    case WorkerState::draining:
      return "draining";
    case WorkerState::gone:
      return "gone";
  }
  return "?";
}

const char* to_string(WorkerKind kind) noexcept {
  switch (kind) {
    case WorkerKind::forked:
      return "forked";
    case WorkerKind::command:
      return "command";
    case WorkerKind::thread:
      return "thread";
    case WorkerKind::primary:
      return "primary";
  }
  return "?";
}

namespace {

std::string describe(const RollStatus& roll) {
  const std::string name = "roll to generation " + std::to_string(roll.generation) + ": ";
  const std::string queued = roll.queued ? ", another is to follow\n" : "\n";
  const std::string count = std::to_string(roll.replaced) + " of " + std::to_string(roll.total) + " replaced";
  switch (roll.state) {
    case RollStatus::State::none:
      return {};
    case RollStatus::State::running:
      return name + count + ", " + std::to_string(roll.starting) + " starting, " + std::to_string(roll.draining) + " draining" +
             queued;
    case RollStatus::State::done:
      return name + "done, " + count + queued;
    case RollStatus::State::failed:
      return name + "stopped, " + count + ": " + roll.reason + queued;
  }
  return {};
}

}  // namespace

std::string Status::to_string() const {
  std::string text;
  for (const auto& endpoint : endpoints) {
    text += endpoint.address.to_string() + "  policy " + endpoint.effective.to_string() + " (" + endpoint.rung + ")";
    if (endpoint.requested.to_string() != endpoint.effective.to_string()) text += ", requested " + endpoint.requested.to_string();
    if (!endpoint.reason.empty()) text += ": " + endpoint.reason;
    if (!endpoint.changing.empty()) text += "\n  changing " + endpoint.changing;
    if (!endpoint.not_changed.empty()) text += "\n  not changed to " + endpoint.not_changed;
    text += "\n  queued " + std::to_string(endpoint.queued);
    if (endpoint.effective.backend == Backend::reuseport && endpoint.address.kind() == Endpoint::Kind::tcp && !endpoint.stealing)
      text += ", each worker serves its own queue";
    if (endpoint.queue_age_ms != 0) text += " (oldest " + std::to_string(endpoint.queue_age_ms) + " ms)";
    if (endpoint.lost != 0) text += ", lost " + std::to_string(endpoint.lost);
    if (endpoint.retried != 0) text += ", retried " + std::to_string(endpoint.retried);
    if (endpoint.bad_picks != 0) text += ", bad picks " + std::to_string(endpoint.bad_picks);
    if (endpoint.strangers != 0) text += ", strangers " + std::to_string(endpoint.strangers);
    if (endpoint.reattached != 0) text += ", program put back " + std::to_string(endpoint.reattached);
    text += "\n";
    for (const auto& load : endpoint.workers)
      text += "  worker " + std::to_string(load.worker) + " slot " + std::to_string(load.slot) + ": accepted " +
              std::to_string(load.accepted) + ", backlog " + std::to_string(load.backlog) + ", picks " +
              std::to_string(load.picks) + (load.hung ? ", hung\n" : "\n");
  }
  for (const auto& worker : workers)
    text += "worker " + std::to_string(worker.id) + " pid " + std::to_string(worker.pid) + " " + lb::to_string(worker.state) +
            (worker.kind == WorkerKind::forked ? std::string() : std::string(" (") + lb::to_string(worker.kind) + ")") +
            ": in flight " + std::to_string(worker.in_flight) + ", accepted " + std::to_string(worker.accepted) +
            (worker.weight == 1 ? std::string() : ", weight " + std::to_string(worker.weight)) +
            (worker.weight_percent == 100 ? std::string() : ", warming up: " + std::to_string(worker.weight_percent) + " %") +
            (worker.reported == 0 ? std::string() : ", reports " + std::to_string(worker.reported)) +
            (worker.cpu < 0 ? std::string() : ", on CPU " + std::to_string(worker.cpu)) + "\n";
  if (!scaling.empty()) text += "scaling " + scaling + "\n";
  text += describe(roll);
  constexpr const char* kUpgrade[] = {"", "starts", "takes over", "serves, and this one leaves", "failed"};
  if (upgrade.state != UpgradeStatus::State::none)
    text += "upgrade: pid " + std::to_string(upgrade.pid) + " " + kUpgrade[static_cast<size_t>(upgrade.state)] +
            (upgrade.reason.empty() ? "" : ": " + upgrade.reason) + "\n";
  return text;
}

}  // namespace lb
