// SPDX-License-Identifier: MIT
// The number of workers, changed while they run.
#include <algorithm>

#include "primary/cluster_impl.hh"
#include "sys/error.hh"
#include "sys/process.hh"

namespace lb {
namespace {

constexpr uint64_t kSpawnAgain_ns = 1'000'000'000;  // no process or descriptor to be had just now

bool counts(const WorkerRecord& worker) {
  return worker.deadline_ns == 0 && !worker.exited && worker.recipe.kind != WorkerKind::primary;
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

int Cluster::Impl::scale_turn_ms() const noexcept {
  uint64_t next = UINT64_MAX;
  if (scale_to_ && !roll_.active) next = scale_again_ns_;
  return ms_until(next);
}

}  // namespace lb
