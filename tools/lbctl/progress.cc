// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include "follow.hh"
#include "status.hh"

namespace lbctl {

Progress roll_progress(const Snapshot& snapshot, uint32_t generation) {
  using State = Progress::State;
  const Roll& roll = snapshot.roll;
  if (roll.generation > generation) return {State::failed, "another roll followed before this one was seen to end"};
  if (roll.generation < generation) {
    if (snapshot.primary.state != "serving") return {State::failed, "the cluster shuts down"};
    return {State::running, "waiting for the roll that runs"};
  }
  if (roll.state == "failed") return {State::failed, "the roll stopped: " + roll.reason};
  const auto text = fmt::format("generation {}: {} of {} replaced", generation, roll.replaced, roll.total);
  if (roll.state == "done") return {State::done, text};
  return {State::running, fmt::format("{}, {} starting, {} old ones drain", text, roll.starting, roll.draining)};
}

Progress scale_progress(const Snapshot& snapshot, unsigned workers) {
  using State = Progress::State;
  if (snapshot.primary.state != "serving") return {State::failed, "the cluster shuts down"};
  unsigned listening = 0;
  unsigned draining = 0;
  for (const auto& worker : snapshot.workers) {
    if (worker.kind == "primary") continue;
    listening += worker.state == "listening" ? 1 : 0;
    draining += worker.state == "draining" ? 1 : 0;
  }
  auto text = fmt::format("{} of {} workers listen, {} drain", listening, workers, draining);
  if (snapshot.scaling.empty() && listening == workers && draining == 0) return {State::done, std::move(text)};
  if (!snapshot.scaling.empty()) text += "; scaling " + snapshot.scaling;
  return {State::running, std::move(text)};
}

Progress upgrade_progress(const Snapshot& snapshot, int64_t pid) {
  using State = Progress::State;
  if (snapshot.primary.pid == pid) return {State::done, fmt::format("primary {} has taken over", pid)};
  const Upgrade& upgrade = snapshot.upgrade;
  if (upgrade.pid != pid) return {State::failed, "another upgrade followed before this one was seen to end"};
  if (upgrade.state == "failed")
    return {State::failed, fmt::format("primary {} is no good: {}; {} goes on", pid, upgrade.reason, snapshot.primary.pid)};
  return {State::running, fmt::format("primary {} {}", pid, upgrade.state == "starting" ? "starts" : "takes over")};
}

Progress policy_progress(const Snapshot& snapshot, const std::string& endpoint) {
  using State = Progress::State;
  Progress progress{State::done, ""};
  for (const auto& each : snapshot.endpoints) {
    if (!endpoint.empty() && each.address != endpoint && each.asked != endpoint) continue;
    if (!each.not_changed.empty()) return {State::failed, each.address + " was not changed to " + each.not_changed};
    if (!each.changing.empty()) progress.state = State::running;
    progress.text += (progress.text.empty() ? "" : "; ") + each.address + " " + policy_text(each);
  }
  return progress;
}

}  // namespace lbctl
