// SPDX-License-Identifier: MIT
#include "fault_result.hh"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "table.hh"

namespace lbbench {
namespace {

constexpr unsigned kExplainedMax = 3;           // losses, of a run
constexpr uint64_t kSameMomentNs = 50'000'000;  // so near to one that was explained, another has the same cause

constexpr unsigned kSlotsPerWorker = 3;  // a socket for each slot is made when it is first used: two for each of 1.5 times as many

std::vector<std::string> trouble_in(const RunResult& run, const FaultServerReport& report, const Account& told,
                                    uint64_t unaccounted) {
  const FaultResult& faults = *run.faults;
  std::vector<std::string> trouble;
  const auto complain = [&](bool when, const std::string& line) {
    if (when) trouble.push_back(line);
  };
  complain(run.lost.total() > 0,
           fmt::format("lost {} refused, {} reset, {} timed out", run.lost.refused, run.lost.reset, run.lost.timeout));
  uint64_t explained_ns = 0;
  unsigned explained = 0;
  for (const Loss& loss : told.faults) {
    if ((explained != 0 && loss.at_ns < explained_ns + kSameMomentNs) || explained == kExplainedMax) continue;
    ++explained;
    explained_ns = loss.at_ns;
    trouble.push_back(report.chronicle.explain(loss, report.begun_ns));
  }
  complain(faults.taken_twice > 0, fmt::format("{} connections were taken by two workers", faults.taken_twice));
  complain(faults.dropped > 0, fmt::format("liblb says that it dropped {} connections", faults.dropped));
  complain(unaccounted > 0, fmt::format("{} connections are not accounted for", unaccounted));
  complain(report.crashes > 0, fmt::format("{} workers ended badly by themselves: {}", report.crashes.load(), report.crash.data()));
  complain(report.left_over > 0, "processes were left");
  complain(report.error[0] != '\0', report.error.data());
  complain(report.late.descriptors > report.early.descriptors + kSlotsPerWorker * run.workers,
           fmt::format("the primary's descriptors grew from {} to {}", report.early.descriptors, report.late.descriptors));
  complain(report.late.memory_kib > report.middle.memory_kib + kGrowthMaxKib,
           fmt::format("the primary's memory grew from {} KiB to {} KiB", report.middle.memory_kib, report.late.memory_kib));
  return trouble;
}

std::string done_of(const std::vector<const RunResult*>& runs) {
  std::map<std::string, uint64_t> sums;
  for (const auto* run : runs)
    for (const auto& [name, count] : run->faults->done) sums[name] += count;
  std::vector<std::string> parts;
  for (const auto& [name, count] : sums) parts.push_back(fmt::format("{} {}", count, name));
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string notes_on(const std::string& policy, const std::vector<const RunResult*>& runs) {
  const auto& last = *runs.back();
  const auto& descriptors = last.faults->descriptors;
  const auto& memory_kib = last.faults->memory_kib;
  std::string text = wrap(fmt::format("{}: {}; the primary had {} descriptors, and {} at the end; {} KiB half-way, {} at the end",
                                      policy, done_of(runs), descriptors.front(), descriptors.back(), memory_kib[1], memory_kib[2]),
                          "    ");
  if (!last.fallback.empty())
    text += wrap(fmt::format("! {} ran as {} ({}): {}", policy, last.effective, last.rung, last.fallback), "    ");
  for (const auto* run : runs) {
    const auto& faults = *run->faults;
    if (faults.upgrades_failed > 0)
      text +=
          wrap(fmt::format("{}: {} upgrades came to nothing, and the old primary went on", policy, faults.upgrades_failed), "    ");
    if (faults.rolls_failed + faults.changes_failed > 0)
      text += wrap(fmt::format("{}: not carried out, as their workers were killed or descriptors taken: {} rolls, {} changes",
                               policy, faults.rolls_failed, faults.changes_failed),
                   "    ");
    for (const auto& line : faults.trouble) text += fmt::format("! {} (seed {}): {}\n", policy, run->seed, line);
  }
  return text;
}

}  // namespace

void fill_in(RunResult& result, const Ledger& ledger, const FaultServerReport& report, double seconds) {
  result.effective = report.effective.data();
  result.rung = report.rung.data();
  result.fallback = report.reason.data();
  result.crashed_workers = report.crashes;
  const Account told = account(ledger.all_losses(), ledger.workers);
  result.lost = told.lost;
  result.lost.reset += ledger.loss_count - ledger.all_losses().size();
  result.completed = ledger.completed;
  result.generator.not_begun = ledger.not_begun;
  result.throughput_per_s = seconds > 0 ? static_cast<double>(result.completed) / seconds : 0;
  FaultResult faults{.done = {},
                     .begun = ledger.begun,
                     .left = ledger.left,
                     .with_worker = told.with_worker,
                     .in_accept = told.in_accept,
                     .taken_twice = ledger.taken_twice,
                     .dropped = report.dropped,
                     .workers_ever = report.workers,
                     .upgrades_failed = report.upgrades_failed,
                     .rolls_failed = report.rolls_failed,
                     .changes_failed = report.changes_failed,
                     .left_over = report.left_over,
                     .descriptors = {report.early.descriptors, report.middle.descriptors, report.late.descriptors},
                     .memory_kib = {report.early.memory_kib, report.middle.memory_kib, report.late.memory_kib},
                     .trouble = {},
                     .seconds = seconds};
  for (size_t i = 0; i < kFaultKinds; ++i)
    if (report.done[i] > 0) faults.done.emplace_back(name_of(static_cast<FaultKind>(i)), report.done[i]);
  result.offered = faults.begun;
  const uint64_t accounted = result.completed + faults.left + faults.with_worker + faults.in_accept + result.lost.total();
  result.faults = std::move(faults);
  result.faults->trouble = trouble_in(result, report, told, result.offered - accounted);
}

std::string report_faults(const Scenario& scenario, const Options& options, std::span<const RunResult> results) {
  if (results.empty()) return fmt::format("{}: nothing measured\n", scenario.name);
  std::vector<std::pair<std::string, std::vector<const RunResult*>>> policies;
  for (const auto& run : results) {
    if (!run.faults) continue;
    const auto known = std::ranges::find_if(policies, [&](const auto& policy) { return policy.first == run.policy; });
    if (known == policies.end())
      policies.push_back({run.policy, {&run}});
    else
      known->second.push_back(&run);
  }
  Table table({{"connections"}, {"faults"}, {"completed"}, {"left"}, {"with worker"}, {"in accept"}, {"LOST"}, {"max ms"}});
  for (const auto& [policy, runs] : policies) {
    uint64_t completed = 0, left = 0, with_worker = 0, in_accept = 0, lost = 0, faults = 0;
    double max_ms = 0;
    for (const auto* run : runs) {
      completed += run->completed;
      left += run->faults->left;
      with_worker += run->faults->with_worker;
      in_accept += run->faults->in_accept;
      lost += run->lost.total();
      max_ms = std::max(max_ms, run->latency.max);
      for (const auto& [name, count] : run->faults->done) faults += count;
    }
    table.add({{policy},
               {std::to_string(faults)},
               {std::to_string(completed)},
               {std::to_string(left)},
               {std::to_string(with_worker)},
               {std::to_string(in_accept)},
               {std::to_string(lost)},
               {in_short(max_ms)}});
  }
  std::string text =
      wrap(fmt::format("{}: {}", scenario.name, scenario.sentence), "  ") +
      wrap(fmt::format("{} {} workers, seed {}. with worker: its code had them when it was killed; in accept: it was "
                       "killed inside its call for one; max: the longest that a short connection took.",
                       results.front().workers, to_string(options.model_of(scenario)), options.seed),
           "") +
      table.to_string();
  for (const auto& [policy, runs] : policies) text += notes_on(policy, runs);
  return text;
}

}  // namespace lbbench
