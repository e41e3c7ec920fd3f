// SPDX-License-Identifier: MIT
#include "advice.hh"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <lb/policy.hh>
#include <map>

#include "spread.hh"
#include "statistics.hh"
#include "table.hh"

namespace lbbench {
namespace {

constexpr double kOthersMax = 0.1;  // of the machine's CPU time, by other programs

/// A policy's standing in one scenario.
struct Standing {
  const PolicyRuns* policy;
  bool lost;
  double measure;
};

double throughput(const RunResult& run) { return run.throughput_per_s; }

/// "a", "a and b", "a, b and c".
std::string listed(const std::vector<std::string>& words, const char* last = "and") {
  if (words.size() < 2) return words.empty() ? "" : words.front();
  return fmt::format("{} {} {}", fmt::join(words.begin(), words.end() - 1, ", "), last, words.back());
}

bool has_lost(const PolicyRuns& policy) {
  return std::ranges::any_of(policy.runs, [](const RunResult* run) { return run->lost.total() > 0 || run->crashed_workers > 0; });
}

bool nothing_answered(const PolicyRuns& policy) {
  return std::ranges::all_of(policy.runs, [](const RunResult* run) { return run->completed == 0; });
}

/// Of `worse` in relation to `leader`, repeat by repeat, so that more than 1 is worse.
std::vector<double> times_worse(const PolicyRuns& worse, const PolicyRuns& leader, bool by_latency) {
  return by_latency ? ratios_by_pair(worse, leader, p99_over_ideal) : ratios_by_pair(leader, worse, throughput);
}

Certainty certainty_of(const std::vector<double>& ratios) {
  if (ratios.size() < 2) return Certainty::single;
  const Spread spread = spread_of(ratios);
  if (spread.median < kEvenRatio || spread.low <= 1) return Certainty::even;
  return spread.confidence >= 0.95 ? Certainty::sure : spread.min > 1 ? Certainty::likely : Certainty::even;
}

Verdict verdict_of(const std::string& scenario, std::span<const RunResult> results) {
  const auto policies = by_policy(results);
  Verdict verdict{.scenario = scenario, .by_latency = judged_by_latency(results.front())};
  std::vector<Standing> standings;
  for (const auto& policy : policies) {
    if (!lb::Policy::parse(policy.policy) || nothing_answered(policy)) continue;
    const double measure = median(policy.each(verdict.by_latency ? p99_over_ideal : throughput));
    standings.push_back({&policy, has_lost(policy), measure});
  }
  if (standings.empty()) return verdict;
  std::ranges::stable_sort(standings, [&](const Standing& a, const Standing& b) {
    if (a.lost != b.lost) return b.lost;
    return verdict.by_latency ? a.measure < b.measure : a.measure > b.measure;
  });
  const Standing& leader = standings.front();
  verdict.leader = verdict.last_of_best = leader.measure;
  verdict.measured = standings.size();
  verdict.repeats = leader.policy->runs.size();
  verdict.best.push_back(leader.policy->policy);
  for (const auto& other : std::span(standings).subspan(1)) {
    const auto ratios = times_worse(*other.policy, *leader.policy, verdict.by_latency);
    const double ratio = median(ratios);
    if (ratio >= kBadRatio) verdict.bad.emplace_back(other.policy->policy, ratio);
    const Certainty certainty = other.lost == leader.lost ? certainty_of(ratios) : Certainty::sure;
    const bool close = certainty == Certainty::even || (certainty == Certainty::single && ratio < kEvenRatio);
    if (verdict.next.empty() && close) {
      verdict.best.push_back(other.policy->policy);
      verdict.last_of_best = other.measure;
    } else if (verdict.next.empty()) {
      verdict.next = other.policy->policy;
      verdict.next_ratio = ratio;
      verdict.certainty = certainty;
    }
  }
  if (verdict.next.empty()) verdict.certainty = verdict.repeats < 2 ? Certainty::single : Certainty::even;
  return verdict;
}

std::string how_good(const Verdict& verdict) {
  if (!verdict.by_latency)
    return fmt::format(
        "{:.0f}{} {}/s{}", verdict.leader, verdict.best.size() > 1 ? fmt::format(" to {:.0f}", verdict.last_of_best) : "",
        unit_of(verdict.scenario),
        verdict.next.empty() ? "" : fmt::format(", {:.0f} % more than {}", 100 * (verdict.next_ratio - 1), verdict.next));
  std::string text = fmt::format("p99 is {}", in_short(verdict.leader));
  if (verdict.best.size() > 1) text += fmt::format(" to {}", in_short(verdict.last_of_best));
  text += " times the ideal's";
  if (!verdict.next.empty() && verdict.next_ratio > 0)
    text += fmt::format(", next is {} with {} times as much", verdict.next, in_short(verdict.next_ratio));
  return text;
}

std::string how_sure(const Verdict& verdict) {
  switch (verdict.certainty) {
    case Certainty::single:
      return fmt::format("one repeat proves nothing: --repeat {} would", kRepeatsForInterval);
    case Certainty::even:
      return fmt::format("{} repeats do not tell them apart", verdict.repeats);
    case Certainty::likely:
      return fmt::format("likely: so in each of {} repeats; sure takes --repeat {}", verdict.repeats, kRepeatsForInterval);
    case Certainty::sure:
      return fmt::format("sure: at 95 %, from {} repeats", verdict.repeats);
  }
  return "";
}

using Group = std::vector<const Verdict*>;  // verdicts with the same best policies

std::vector<Group> grouped(const std::vector<Verdict>& verdicts) {
  std::vector<Group> groups;
  for (const auto& verdict : verdicts) {
    if (verdict.best.empty()) continue;
    auto names = verdict.best;
    std::ranges::sort(names);
    const auto same = std::ranges::find_if(groups, [&](const Group& group) {
      auto others = group.front()->best;
      std::ranges::sort(others);
      return others == names;
    });
    (same == groups.end() ? groups.emplace_back() : *same).push_back(&verdict);
  }
  return groups;
}

std::string names_of(const Group& group) {
  std::vector<std::string> names;
  for (const auto* verdict : group) names.push_back(verdict->scenario);
  return listed(names);
}

std::string choice_of(const Group& group) {
  const auto any = std::ranges::all_of(group, &Verdict::any_will_do);
  return any ? "any policy" : listed(group.front()->best, "or");
}

std::string sentence_on(const Group& group) {
  std::vector<std::string> parts;
  for (const auto* verdict : group)
    parts.push_back(
        fmt::format("{}{} ({})", group.size() > 1 ? verdict->scenario + ": " : "", how_good(*verdict), how_sure(*verdict)));
  return fmt::format("For {} take {}: {}.", names_of(group), choice_of(group), fmt::join(parts, "; "));
}

/// Which policies are far behind, and where.
std::string warning(const std::vector<Verdict>& verdicts) {
  std::vector<std::pair<std::string, std::vector<std::string>>> where;
  for (const auto& verdict : verdicts) {
    for (const auto& [policy, ratio] : verdict.bad) {
      const auto known = std::ranges::find(where, policy, &std::pair<std::string, std::vector<std::string>>::first);
      (known == where.end() ? where.emplace_back(policy, std::vector<std::string>{}) : *known)
          .second.push_back(fmt::format("{} ({} times worse)", verdict.scenario, in_short(ratio)));
    }
  }
  if (where.empty()) return "";
  std::vector<std::string> parts;
  for (const auto& [policy, scenarios] : where) parts.push_back(fmt::format("{} for {}", policy, listed(scenarios)));
  return fmt::format("Keep away from {}.", fmt::join(parts, ", and from "));
}

std::string listed_counts(const Lost& lost) {
  return fmt::format("{} refused, {} reset, {} timed out", lost.refused, lost.reset, lost.timeout);
}

/// What the faults of one scenario have cost.
std::string sentence_on(const std::string& scenario, const std::vector<Toll>& tolls) {
  uint64_t faults = 0, begun = 0, with_workers = 0;
  std::vector<std::string> wrong;
  for (const auto& toll : tolls) {
    if (toll.scenario != scenario) continue;
    faults += toll.faults;
    begun += toll.begun;
    with_workers += toll.with_worker + toll.in_accept;
    if (toll.lost.total() > 0)
      wrong.push_back(fmt::format("{} lost {}", toll.policy, listed_counts(toll.lost)));
    else if (!toll.trouble.empty())
      wrong.push_back(fmt::format("{}: {}", toll.policy, toll.trouble.front()));
  }
  const std::string had =
      with_workers > 0 ? fmt::format(" ({} went with killed workers that had accepted them)", with_workers) : "";
  if (wrong.empty()) return fmt::format("{}: {} faults, {} connections, none lost{}.", scenario, faults, begun, had);
  return fmt::format("{}: {} faults, {} connections{}; {}.", scenario, faults, begun, had, fmt::join(wrong, "; "));
}

/// The headline's part on what the faults have cost.
std::string harm_in_short(const std::vector<Toll>& tolls) {
  uint64_t lost = 0, faults = 0;
  bool trouble = false;
  for (const auto& toll : tolls) {
    lost += toll.lost.total();
    faults += toll.faults;
    trouble |= !toll.trouble.empty();
  }
  if (lost > 0) return fmt::format("{} connections lost to {} faults.", lost, faults);
  return fmt::format("{} faults, no connection lost{}.", faults, trouble ? ", but see what is marked" : "");
}

/// Loads under which somebody answered nothing at all.
std::vector<std::string> overloads(std::span<const RunResult> results) {
  std::map<std::string, std::vector<std::string>> silent;
  for (const auto& run : results)
    if (run.completed == 0 && !is_harmed(run.scenario)) {
      auto& policies = silent[run.scenario];
      if (std::ranges::find(policies, run.policy) == policies.end()) policies.push_back(run.policy);
    }
  std::vector<std::string> sentences;
  for (const auto& [scenario, policies] : silent)
    sentences.push_back(fmt::format("{}: no answer in time from {}: the load is more than this machine can do; less --utilization.",
                                    scenario, listed(policies)));
  return sentences;
}

std::string doubt(std::span<const RunResult> results) {
  double others = 0;
  for (const auto& run : results) others = std::max(others, run.others_cpu);
  if (others <= kOthersMax) return "";
  return fmt::format(
      "Other programs took up to {:.0f} % of the CPUs meanwhile: measure again on a quiet machine before you decide.",
      100 * others);
}

}  // namespace

const char* to_string(Certainty certainty) {
  switch (certainty) {
    case Certainty::single:
      return "single";
    case Certainty::even:
      return "even";
    case Certainty::likely:
      return "likely";
    case Certainty::sure:
      return "sure";
  }
  return "";
}

std::vector<Verdict> verdicts_of(std::span<const RunResult> results) {
  std::vector<Verdict> verdicts;
  for (const auto& run : results) {
    if (is_harmed(run.scenario) || std::ranges::find(verdicts, run.scenario, &Verdict::scenario) != verdicts.end()) continue;
    std::vector<RunResult> chosen;
    std::ranges::copy_if(results, std::back_inserter(chosen),
                         [&](const RunResult& other) { return other.scenario == run.scenario; });
    verdicts.push_back(verdict_of(run.scenario, chosen));
  }
  return verdicts;
}

std::vector<Toll> tolls_of(std::span<const RunResult> results) {
  std::vector<Toll> tolls;
  std::vector<std::map<std::string, uint64_t>> done;
  for (const auto& run : results) {
    if (!run.faults) continue;
    auto toll = std::ranges::find_if(tolls, [&](const Toll& t) { return t.scenario == run.scenario && t.policy == run.policy; });
    if (toll == tolls.end()) {
      toll = tolls.insert(tolls.end(), Toll{.scenario = run.scenario, .policy = run.policy, .done = ""});
      done.emplace_back();
    }
    for (const auto& [name, count] : run.faults->done) {
      done[static_cast<size_t>(toll - tolls.begin())][name] += count;
      toll->faults += count;
    }
    toll->begun += run.faults->begun;
    toll->completed += run.completed;
    toll->left += run.faults->left;
    toll->with_worker += run.faults->with_worker;
    toll->in_accept += run.faults->in_accept;
    toll->lost.refused += run.lost.refused;
    toll->lost.reset += run.lost.reset;
    toll->lost.timeout += run.lost.timeout;
    toll->max_ms = std::max(toll->max_ms, run.latency.max);
    toll->trouble.insert(toll->trouble.end(), run.faults->trouble.begin(), run.faults->trouble.end());
  }
  for (size_t i = 0; i < tolls.size(); ++i) {
    std::vector<std::string> parts;
    for (const auto& [name, count] : done[i]) parts.push_back(fmt::format("{} {}", count, name));
    tolls[i].done = fmt::format("{}", fmt::join(parts, ", "));
  }
  return tolls;
}

Advice advise(std::span<const RunResult> results) {
  const auto verdicts = verdicts_of(results);
  const auto groups = grouped(verdicts);
  const auto tolls = tolls_of(results);
  Advice advice;
  std::vector<std::string> parts;
  for (const auto& group : groups) {
    parts.push_back(fmt::format("{} for {}", choice_of(group), names_of(group)));
    advice.sentences.push_back(sentence_on(group));
  }
  if (!groups.empty()) advice.headline = fmt::format("Take {}.", fmt::join(parts, "; "));
  std::vector<std::string> told;
  for (const auto& toll : tolls) {
    if (std::ranges::find(told, toll.scenario) != told.end()) continue;
    told.push_back(toll.scenario);
    advice.sentences.push_back(sentence_on(toll.scenario, tolls));
  }
  if (!tolls.empty()) advice.headline += (groups.empty() ? "" : " ") + harm_in_short(tolls);
  const auto silent = overloads(results);
  advice.sentences.insert(advice.sentences.end(), silent.begin(), silent.end());
  if (advice.headline.empty())
    advice.headline = silent.empty() ? "No policy of liblb was measured." : "More than this machine can do.";
  for (const auto& sentence : {warning(verdicts), doubt(results)})
    if (!sentence.empty()) advice.sentences.push_back(sentence);
  return advice;
}

std::string advice_text(std::span<const RunResult> results) {
  if (results.empty()) return "";
  const Advice advice = advise(results);
  std::string text = '\n' + wrap(advice.headline, "  ");
  for (const auto& sentence : advice.sentences) text += wrap(sentence, "  ");
  return text;
}

}  // namespace lbbench
