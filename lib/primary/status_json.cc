// SPDX-License-Identifier: MIT
#include "primary/status_json.hh"

namespace lb {
namespace {

void write(JsonWriter& json, const WorkerLoad& load) {
  json.begin_object()
      .member("worker", load.worker)
      .member("slot", load.slot)
      .member("accepted", load.accepted)
      .member("backlog", load.backlog)
      .member("picks", load.picks)
      .member("hung", load.hung)
      .end_object();
}

void write(JsonWriter& json, const EndpointStatus& endpoint) {
  json.begin_object()
      .member("asked", endpoint.asked.to_string())
      .member("address", endpoint.address.to_string())
      .member("requested", endpoint.requested.to_string())
      .member("effective", endpoint.effective.to_string())
      .member("rung", endpoint.rung)
      .member("reason", endpoint.reason)
      .member("changing", endpoint.changing)
      .member("not_changed", endpoint.not_changed)
      .member("queued", endpoint.queued)
      .member("queue_age_ms", endpoint.queue_age_ms)
      .member("lost", endpoint.lost)
      .member("retried", endpoint.retried)
      .member("bad_picks", endpoint.bad_picks)
      .member("stealing", endpoint.stealing)
      .member("strangers", endpoint.strangers)
      .member("reattached", endpoint.reattached);
  json.key("outcomes").begin_object();
  for (const auto& outcome : endpoint.outcomes) json.member(outcome.name, outcome.count);
  json.end_object().key("workers").begin_array();
  for (const auto& load : endpoint.workers) write(json, load);
  json.end_array().end_object();
}

void write(JsonWriter& json, const WorkerStatus& worker) {
  json.begin_object()
      .member("id", worker.id)
      .member("pid", static_cast<uint64_t>(worker.pid))
      .member("slot", worker.slot)
      .member("state", to_string(worker.state))
      .member("kind", to_string(worker.kind))
      .member("in_flight", worker.in_flight)
      .member("accepted", worker.accepted)
      .member("weight", uint32_t{worker.weight})
      .member("weight_percent", worker.weight_percent)
      .member("reported", worker.reported)
      .member("connected", worker.connected)
      .member("generation", worker.generation);
  if (worker.cpu >= 0) json.member("cpu", static_cast<uint32_t>(worker.cpu));
  json.end_object();
}

const char* name_of(RollStatus::State state) {
  switch (state) {
    case RollStatus::State::none:
      return "none";
    case RollStatus::State::running:
      return "running";
    case RollStatus::State::done:
      return "done";
    case RollStatus::State::failed:
      return "failed";
  }
  return "?";
}

void write(JsonWriter& json, const RollStatus& roll) {
  json.begin_object()
      .member("state", name_of(roll.state))
      .member("generation", roll.generation)
      .member("total", roll.total)
      .member("replaced", roll.replaced)
      .member("starting", roll.starting)
      .member("old", roll.old)
      .member("draining", roll.draining)
      .member("queued", roll.queued)
      .member("reason", roll.reason)
      .end_object();
}

const char* name_of(UpgradeStatus::State state) {
  switch (state) {
    case UpgradeStatus::State::none:
      return "none";
    case UpgradeStatus::State::starting:
      return "starting";
    case UpgradeStatus::State::taking_over:
      return "taking_over";
    case UpgradeStatus::State::leaving:
      return "leaving";
    case UpgradeStatus::State::failed:
      return "failed";
  }
  return "?";
}

void write(JsonWriter& json, const UpgradeStatus& upgrade) {
  json.begin_object()
      .member("state", name_of(upgrade.state))
      .member("pid", static_cast<uint64_t>(upgrade.pid))
      .member("reason", upgrade.reason)
      .end_object();
}

}  // namespace

void write_status(JsonWriter& json, const Status& status) {
  json.key("endpoints").begin_array();
  for (const auto& endpoint : status.endpoints) write(json, endpoint);
  json.end_array().key("workers").begin_array();
  for (const auto& worker : status.workers) write(json, worker);
  json.end_array().member("scaling", status.scaling).member("generation", status.generation).key("roll");
  write(json, status.roll);
  json.key("upgrade");
  write(json, status.upgrade);
}

}  // namespace lb
