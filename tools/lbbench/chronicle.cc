// SPDX-License-Identifier: MIT
#include "chronicle.hh"

#include <fmt/format.h>

namespace lbbench {
namespace {

constexpr uint64_t kBeforeNs = 3'000'000'000;
constexpr uint64_t kAfterNs = 200'000'000;  // the primary hears of some things after the client
constexpr unsigned kEntriesMax = 80;        // of one loss

const char* word_for(Outcome outcome) {
  if (outcome == Outcome::refused) return "refused";
  return outcome == Outcome::timeout ? "no answer" : "reset";
}

double ms_between(uint64_t from_ns, uint64_t to_ns) { return (static_cast<double>(to_ns) - static_cast<double>(from_ns)) / 1e6; }

}  // namespace

void Chronicle::add(uint64_t at_ns, std::string_view what) {
  Entry& entry = entries_[count_++ % kKept];
  entry.at_ns = at_ns;
  entry.what[what.copy(entry.what.data(), entry.what.size() - 1)] = '\0';
}

std::string Chronicle::explain(const Loss& loss, uint64_t origin_ns) const {
  std::string text = fmt::format("{} after {:.3f} s of a connection of {:.1f} ms, {}", word_for(loss.outcome),
                                 ms_between(origin_ns, loss.at_ns) / 1e3, ms_between(loss.begun_ns, loss.at_ns),
                                 loss.worker == 0 ? "which no worker's code had" : fmt::format("which worker {} had", loss.worker));
  const uint64_t moment_ns = loss.outcome == Outcome::timeout ? loss.begun_ns : loss.at_ns;
  const uint32_t count = count_;
  std::string around;
  unsigned told = 0;
  for (uint32_t i = count; i > 0 && count - i < kKept && told < kEntriesMax; --i) {
    const Entry& entry = entries_[(i - 1) % kKept];
    if (entry.at_ns > moment_ns + kAfterNs) continue;
    if (entry.at_ns + kBeforeNs < moment_ns) break;
    around.insert(0, fmt::format("; {:+.1f} ms: {}", ms_between(moment_ns, entry.at_ns), entry.what.data()));
    ++told;
  }
  return text + around;
}

}  // namespace lbbench
