// SPDX-License-Identifier: MIT
// A newcomer is not given its whole share of the load at once while others, who are warm, can bear it: its weight grows from a sixteenth
// to all in Options::slow_start. The idea and its limits are those of the proxies: HAProxy's "slowstart" and nginx's "slow_start", which
// likewise leave a server alone that has nobody warm beside it.
#include "primary/slow_start.hh"

#include <algorithm>

#include "sys/process.hh"

namespace lb {
namespace {

bool is_warm(const WorkerRecord& worker) { return worker.state == WorkerState::listening && worker.cold_since_ns == 0; }

}  // namespace

bool SlowStart::anybody_warm() const noexcept {
  const auto& workers = supervisor_.workers();
  return std::any_of(workers.begin(), workers.end(), [](const auto& worker) { return is_warm(*worker); });
}

/// One that was spawned before anybody else served is none of these.
void SlowStart::begin(WorkerRecord& worker) noexcept {
  if (options_.slow_start.count() == 0) return;
  if (worker.newcomer && anybody_warm()) worker.cold_since_ns = now_ns();
  if (worker.cold_since_ns == 0 && due_ns_ == 0) return;
  due_ns_ = now_ns();  // its own share counts among the others' at once, whichever it is
  advance();
}

void SlowStart::advance() noexcept {
  if (due_ns_ == 0) return;
  const uint64_t now = now_ns();
  const bool nobody_warm = !anybody_warm();
  if (now < due_ns_ && !nobody_warm) return;
  const auto whole_ns = to_ns(options_.slow_start);
  bool anybody_cold = false;
  for (auto& worker : supervisor_.workers()) {
    if (nobody_warm || now - worker->cold_since_ns >= whole_ns) worker->cold_since_ns = 0;
    anybody_cold |= worker->cold_since_ns != 0;
  }
  due_ns_ = anybody_cold ? now + whole_ns / Scoreboard::kShares : 0;
  for (auto& worker : supervisor_.workers()) {
    uint64_t share = anybody_cold ? Scoreboard::kShares : 0;
    if (worker->cold_since_ns != 0) share = 1 + (now - worker->cold_since_ns) * (Scoreboard::kShares - 1) / whole_ns;
    scoreboard_.set_share(worker->slot, static_cast<uint8_t>(share));
    listeners_.weigh(worker->seat());
  }
}

int SlowStart::next_turn_ms() const noexcept { return due_ns_ == 0 ? -1 : ms_until(due_ns_); }

}  // namespace lb
