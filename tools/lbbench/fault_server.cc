// SPDX-License-Identifier: MIT
#include "fault_server.hh"

namespace lbbench {

std::vector<std::string> FaultServerPlan::to_arguments() const {
  return {policy,
          std::to_string(workers),
          std::to_string(static_cast<int>(model)),
          std::to_string(static_cast<int>(harm)),
          std::to_string(seed),
          faults ? std::to_string(*faults) : "",
          std::to_string(duration_ns),
          std::to_string(primary),
          policy_now,
          std::to_string(workers_now),
          std::to_string(static_cast<int>(work))};
}

FaultServerPlan FaultServerPlan::from_arguments(const std::vector<std::string>& arguments) {
  const auto number = [&](size_t at) { return std::stoull(arguments.at(at)); };
  return {.policy = arguments.at(0),
          .workers = static_cast<unsigned>(number(1)),
          .work = static_cast<Work>(number(10)),
          .model = static_cast<WorkerModel>(number(2)),
          .harm = static_cast<Harm>(number(3)),
          .seed = number(4),
          .faults = arguments.at(5).empty() ? std::nullopt : std::optional<unsigned>(static_cast<unsigned>(number(5))),
          .duration_ns = number(6),
          .primary = static_cast<uint32_t>(number(7)),
          .policy_now = arguments.at(8),
          .workers_now = static_cast<unsigned>(number(9))};
}

}  // namespace lbbench
