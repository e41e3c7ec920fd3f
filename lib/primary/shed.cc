// SPDX-License-Identifier: MIT
// The hint to workers with many connections, once there are more of them to share the load.
#include "primary/shed.hh"

#include <random>

#include "sys/process.hh"

namespace lb {
namespace {

constexpr unsigned kRounds = 8;

/// Half to one and a half times as long: not all at once, however many do this.
uint64_t jittered(uint64_t time_ns) {
  static std::minstd_rand random(std::random_device{}());
  return time_ns / 2 + std::uniform_int_distribution<uint64_t>(0, time_ns)(random);
}

}  // namespace

/// A newcomer listens: those that have many connections may close idle ones, whose clients will come back and be shared anew.
void Shed::begin() noexcept {
  if (options_.shed_over.count() <= 0) return;
  rounds_ = kRounds;
  due_ns_ = now_ns() + jittered(to_ns(options_.shed_over) / kRounds);
}

/// In each round they are asked for a part of what they have above the mean as of then, so what clients do meanwhile counts.
void Shed::advance() noexcept {
  if (rounds_ == 0 || now_ns() < due_ns_) return;
  uint64_t sum = 0;
  uint64_t count = 0;
  for (const auto& worker : supervisor_.workers()) {
    if (worker->state != WorkerState::listening) continue;
    sum += in_flight_of(scoreboard_.page(worker->slot));
    ++count;
  }
  const uint64_t mean = count == 0 ? 0 : sum / count;
  for (auto& worker : supervisor_.workers()) {
    const uint64_t load = in_flight_of(scoreboard_.page(worker->slot));
    if (worker->state != WorkerState::listening || load * 4 <= mean * 5 || load - mean < 2) continue;
    Message message;
    message.act = Act::shed;
    message.value[0] = static_cast<uint32_t>((load - mean + rounds_ - 1) / rounds_);
    (void)supervisor_.tell(*worker, message, {});
  }
  if (--rounds_ == 0) return;
  due_ns_ = now_ns() + jittered(to_ns(options_.shed_over) / kRounds);
}

int Shed::next_turn_ms() const noexcept { return rounds_ == 0 ? -1 : ms_until(due_ns_); }

}  // namespace lb
