// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>
#include <vector>

#include "result.hh"

namespace lbbench {

/// How well it is known that a policy is better than another under a scenario.
enum class Certainty {
  single,  ///< one repeat: nobody can say
  even,    ///< too close, or now one is ahead and now the other
  likely,  ///< ahead in every repeat, which are too few for 95 %
  sure,    ///< the interval of the ratios by pair, at 95 % or more, holds no 1
};
const char* to_string(Certainty certainty);

/// What one scenario says. Its measure is p99 over the ideal's where arrivals have a clock of their own, else connections a second;
/// a policy that lost connections comes after all that lost none, and one that answered none has no standing at all.
struct Verdict {
  std::string scenario;
  bool by_latency = true;
  std::vector<std::string> best{};  ///< liblb's policies, the leader first, then those that cannot be told from it
  double leader = 0;                ///< its measure, the median over the repeats
  double last_of_best = 0;          ///< that of the last of `best`
  size_t measured = 0;              ///< of liblb's policies
  std::string next{};               ///< the first that is worse than `best`; empty if none is
  double next_ratio = 0;            ///< how many times worse it is, median of the ratios by pair
  Certainty certainty = Certainty::single;
  size_t repeats = 0;
  std::vector<std::pair<std::string, double>> bad{};  ///< at least kBadRatio times worse than the leader, and by how much

  /// Nobody is better than anybody.
  bool any_will_do() const { return measured > 1 && best.size() == measured; }
};

/// What became of all connections of a scenario that does harm, under one policy; all repeats together.
struct Toll {
  std::string scenario;
  std::string policy;
  uint64_t faults = 0;
  std::string done;    ///< "20 kills, 3 rolls"
  uint64_t begun = 0;  ///< connections
  uint64_t completed = 0;
  uint64_t left = 0;         ///< by clients, as they were meant to
  uint64_t with_worker = 0;  ///< with a killed worker, whose own they were
  uint64_t in_accept = 0;    ///< the same, inside its call for one
  Lost lost{};               ///< otherwise: must be none
  double max_ms = 0;
  std::vector<std::string> trouble{};
};
std::vector<Toll> tolls_of(std::span<const RunResult> results);

constexpr double kEvenRatio = 1.03;  ///< less is no difference that anybody should act on
constexpr double kBadRatio = 1.5;

/// In the order of the results, without scenarios that do harm. Only liblb's own policies can be best.
std::vector<Verdict> verdicts_of(std::span<const RunResult> results);

struct Advice {
  std::string headline;                ///< one short sentence
  std::vector<std::string> sentences;  ///< which policy for which load, how sure; which not; what speaks against the figures
};

Advice advise(std::span<const RunResult> results);

/// The advice as lines of at most kTableWidth; empty for no results.
std::string advice_text(std::span<const RunResult> results);

}  // namespace lbbench
