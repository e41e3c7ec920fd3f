// SPDX-License-Identifier: MIT
#include "snapshot.hh"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace lbctl {

// What a primary of another version leaves out keeps its default.
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Load, worker, accepted, backlog, picks, hung)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Endpoint, asked, address, requested, effective, rung, reason, changing, not_changed,
                                                queued, queue_age_ms, lost, retried, bad_picks, stealing, strangers, reattached,
                                                outcomes, workers)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Worker, id, pid, slot, state, kind, in_flight, accepted, generation, weight,
                                                weight_percent, reported)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Roll, state, generation, total, replaced, starting, draining, reason)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Upgrade, state, pid, reason)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(PrimaryStatus, pid, version, state, now_ms)

Snapshot Snapshot::parse(const nlohmann::json& answer) {
  return {answer.at("primary").get<PrimaryStatus>(),
          answer.at("endpoints").get<std::vector<Endpoint>>(),
          answer.at("workers").get<std::vector<Worker>>(),
          answer.value("roll", Roll{}),
          answer.value("scaling", ""),
          answer.value("upgrade", Upgrade{})};
}

const Load* Endpoint::find(uint32_t worker) const {
  const auto found = std::find_if(workers.begin(), workers.end(), [=](const Load& load) { return load.worker == worker; });
  return found == workers.end() ? nullptr : &*found;
}

const Endpoint* Snapshot::find(const std::string& address) const {
  const auto found =
      std::find_if(endpoints.begin(), endpoints.end(), [&](const Endpoint& each) { return each.address == address; });
  return found == endpoints.end() ? nullptr : &*found;
}

const Worker* Snapshot::find(uint32_t worker) const {
  const auto found = std::find_if(workers.begin(), workers.end(), [=](const Worker& each) { return each.id == worker; });
  return found == workers.end() ? nullptr : &*found;
}

}  // namespace lbctl
