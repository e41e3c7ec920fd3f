// SPDX-License-Identifier: MIT
// The number of workers, changed while they run; and the hint to those with many connections, once there are more to share them.
#include <algorithm>
#include <random>

#include "primary/cluster_impl.hh"
#include "sys/error.hh"
#include "sys/process.hh"

namespace lb {
namespace {

constexpr uint64_t kSpawnAgain_ns = 1'000'000'000;  // no process or descriptor to be had just now
constexpr unsigned kShedRounds = 8;

bool counts(const WorkerRecord& worker) {
  return worker.deadline_ns == 0 && !worker.exited && worker.recipe.kind != WorkerKind::primary;
}

/// Half to one and a half times as long: not all at once, however many do this.
uint64_t jittered(uint64_t time_ns) {
  static std::minstd_rand random(std::random_device{}());
  return time_ns / 2 + std::uniform_int_distribution<uint64_t>(0, time_ns)(random);
}

}  // namespace

Result<void> Cluster::Impl::scale(unsigned workers) noexcept try {
  if (phase_ != Phase::serving) return Error{ESHUTDOWN, "scale: the cluster shuts down"};
  if (!last_recipe_) return Error{ENOENT, "scale: no worker was spawned yet, so there is nothing to spawn more of"};
  const uint32_t slots = scoreboard_.slots();
  if (workers == 0 || workers > slots / 2)
    return error_naming(workers == 0 ? EINVAL : ENOSPC, "scale to " + std::to_string(workers) + " workers (allowed: 1 to " +
                                                            std::to_string(slots / 2) + ", half of the " + std::to_string(slots) +
                                                            " slots, so that each can be replaced; see Options::workers_max)");
  scaled_to_ = workers;
  scale_to_ = workers;
  scale_trouble_.clear();
  scale_again_ns_ = 0;
  return {};
} catch (...) {
  return Error{ENOMEM, "scale"};
}

/// Replacements are not what is counted: while a roll still has some to start, its count is not ours to change.
void Cluster::Impl::advance_scale() noexcept {
  if (phase_ != Phase::serving) scale_to_.reset();
  if (!scale_to_ || now_ns() < scale_again_ns_) return;
  const auto& workers = supervisor_->workers();
  const bool replacing =
      roll_.active && (!roll_.steps.empty() || !roll_.vacant.empty() ||
                       std::any_of(workers.begin(), workers.end(), [this](const auto& w) { return to_be_replaced(*w); }));
  if (replacing) return;
  const auto staying = static_cast<size_t>(std::count_if(workers.begin(), workers.end(), [](const auto& w) { return counts(*w); }));
  for (size_t now = staying + supervisor_->respawns(); now < *scale_to_; ++now) {
    Recipe recipe = *last_recipe_;
    recipe.generation = generation_;
    auto spawned = supervisor_->spawn(std::move(recipe));
    if (spawned) continue;
    scale_trouble_ = spawned.error().message();
    scale_again_ns_ = now_ns() + kSpawnAgain_ns;
    return;
  }
  size_t surplus = staying + supervisor_->respawns();
  for (; surplus > *scale_to_ && supervisor_->drop_respawn(); --surplus) {
  }
  for (; surplus > *scale_to_; --surplus) start_drain(*to_leave(), false, options_.drain_deadline);
  scale_to_.reset();
  scale_trouble_.clear();
}

/// Whom a scale-down drains: who serves nobody yet, then who has the fewest connections in hand, so that it is gone soonest and the
/// fewest are in the way of its deadline; among those alike the youngest, whose caches are the coldest.
WorkerRecord* Cluster::Impl::to_leave() noexcept {
  WorkerRecord* best = nullptr;
  const auto price = [this](const WorkerRecord& worker) {
    return std::pair(worker.state == WorkerState::listening, in_flight_of(scoreboard_.page(worker.slot)));
  };
  for (auto& worker : supervisor_->workers())
    if (counts(*worker) && (best == nullptr || price(*worker) <= price(*best)))
      best = worker.get();  // by id: the last is the youngest
  return best;
}

/// A newcomer listens: those that have many connections may close idle ones, whose clients will come back and be shared anew.
void Cluster::Impl::begin_shed() noexcept {
  if (options_.shed_over.count() <= 0) return;
  shed_rounds_ = kShedRounds;
  shed_ns_ = now_ns() + jittered(to_ns(options_.shed_over) / kShedRounds);
}

/// In each round they are asked for a part of what they have above the mean as of then, so what clients do meanwhile counts.
void Cluster::Impl::advance_shed() noexcept {
  if (shed_rounds_ == 0 || now_ns() < shed_ns_) return;
  uint64_t sum = 0;
  uint64_t count = 0;
  for (const auto& worker : supervisor_->workers()) {
    if (worker->state != WorkerState::listening) continue;
    sum += in_flight_of(scoreboard_.page(worker->slot));
    ++count;
  }
  const uint64_t mean = count == 0 ? 0 : sum / count;
  for (auto& worker : supervisor_->workers()) {
    const uint64_t load = in_flight_of(scoreboard_.page(worker->slot));
    if (worker->state != WorkerState::listening || load * 4 <= mean * 5 || load - mean < 2) continue;
    Message message;
    message.act = Act::shed;
    message.value[0] = static_cast<uint32_t>((load - mean + shed_rounds_ - 1) / shed_rounds_);
    (void)supervisor_->tell(*worker, message, {});
  }
  if (--shed_rounds_ == 0) return;
  shed_ns_ = now_ns() + jittered(to_ns(options_.shed_over) / kShedRounds);
}

int Cluster::Impl::scale_turn_ms() const noexcept {
  uint64_t next = UINT64_MAX;
  if (scale_to_ && !roll_.active) next = scale_again_ns_;
  if (shed_rounds_ != 0) next = std::min(next, shed_ns_);
  return ms_until(next);
}

}  // namespace lb
