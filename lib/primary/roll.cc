// SPDX-License-Identifier: MIT
// Rolling restart. Each worker of an older generation gets a replacement in a slot of its own; once that listens wherever the old one
// came to listen, the old one drains. So there is never less to serve with than before, and a version that does not come up replaces
// nobody: the roll stops, and the old ones go on.
//
//   crashes while it runs    | what becomes of it
//   an old one, not its turn | its replacement starts in its stead, and has nobody to drain
//   an old one, in its step  | the step goes on
//   a replacement, starting  | the roll stops
//   a replacement, later     | it is respawned, and nobody is drained before it listens; when it crashes again, the roll stops
#include <algorithm>

#include "primary/cluster_impl.hh"
#include "sys/error.hh"
#include "sys/process.hh"

namespace lb {
namespace {

/// The last of one name counts, so what is added last overrides.
void add_environment(Recipe& recipe, const std::vector<std::string>& env) {
  auto& all = recipe.kind == WorkerKind::command ? recipe.command.env : recipe.env;
  const auto name = [](const std::string& text) { return text.substr(0, text.find('=')); };
  for (const std::string& text : env) {
    std::erase_if(all, [&](const std::string& old) { return name(old) == name(text); });
    all.push_back(text);
  }
}

std::string how_it_ended(const ExitStatus& status) {
  return status.signal != 0 ? "was killed by signal " + std::to_string(status.signal)
                            : "exited with code " + std::to_string(status.code);
}

}  // namespace

Result<void> Cluster::Impl::roll(RollOptions options) noexcept try {
  if (phase_ != Phase::serving) return Error{ESHUTDOWN, "roll: the cluster shuts down"};
  if (options.at_once < 1) return Error{EINVAL, "RollOptions::at_once 0 (allowed: 1 and up)"};
  if (options.ready_deadline <= std::chrono::milliseconds{0}) return Error{EINVAL, "RollOptions::ready_deadline is not positive"};
  if (options.drain_deadline && *options.drain_deadline < std::chrono::milliseconds{0})
    return Error{EINVAL, "RollOptions::drain_deadline is negative"};
  if (auto valid = validate_environment(options.env); !valid) return valid;
  if (auto read = read_policy_again(options.env); !read) return read;
  roll_.next = std::move(options);
  roll_.status.queued = roll_.active;
  return {};
} catch (...) {
  return Error{ENOMEM, "roll"};
}

/// LB_SCHED_POLICY as the replacements will see it: one that differs from last time changes the policy, of those that leave too.
Result<void> Cluster::Impl::read_policy_again(const std::vector<std::string>& env) {
  constexpr std::string_view kName = "LB_SCHED_POLICY=";
  auto policy = Policy::from_environment(options_.policy);
  for (const std::string& text : env)
    if (text.starts_with(kName)) policy = text.size() == kName.size() ? options_.policy : Policy::parse(text.substr(kName.size()));
  if (!policy) return policy.error();
  if (*policy == policy_) return {};
  if (auto set = set_policy(*policy, nullptr); !set) return set;
  policy_ = *policy;
  return {};
}

Result<void> Cluster::Impl::set_policy(const Policy& policy, const Endpoint* only) noexcept {
  if (phase_ != Phase::serving) return Error{ESHUTDOWN, "set_policy: the cluster shuts down"};
  if (policy.selector == Selector::custom && !options_.selector)
    return Error{EINVAL, "set_policy round-robin:custom: the program supplies no Options::selector"};
  if (successor_ || predecessor_) return Error{EBUSY, "set_policy: an upgrade is under way"};
  return listeners_->set_policy(policy, only);
}

void Cluster::Impl::tell_roll(Event::Kind kind, const WorkerRecord* fresh, uint32_t replaced) noexcept {
  if (!options_.on_event) return;
  Event event;
  event.kind = kind;
  event.worker = fresh == nullptr ? 0 : fresh->id;
  event.pid = fresh == nullptr ? 0 : fresh->pid;
  event.replaced = replaced;
  event.generation = generation_;
  event.reason = roll_.status.reason.c_str();
  options_.on_event(event);
}

bool Cluster::Impl::outdated(const WorkerRecord& worker) const noexcept {
  return worker.recipe.generation < generation_ && worker.recipe.kind != WorkerKind::primary;
}

bool Cluster::Impl::to_be_replaced(const WorkerRecord& worker) const noexcept {
  return outdated(worker) && worker.deadline_ns == 0 && !worker.exited &&
         std::none_of(roll_.steps.begin(), roll_.steps.end(), [&](const auto& step) { return step.old == worker.id; });
}

void Cluster::Impl::begin_roll() noexcept {
  ++generation_;
  roll_.active = true;
  roll_.options = std::move(*roll_.next);
  roll_.next.reset();
  roll_.vacant = supervisor_->take_respawns();
  const auto old = std::count_if(supervisor_->workers().begin(), supervisor_->workers().end(),
                                 [this](const auto& worker) { return to_be_replaced(*worker); });
  roll_.status = {RollStatus::State::running, generation_, static_cast<unsigned>(old) + static_cast<unsigned>(roll_.vacant.size())};
  tell_roll(Event::Kind::roll_begun);
}

void Cluster::Impl::advance_roll() noexcept {
  if (phase_ != Phase::serving) {
    roll_.next.reset();
    roll_.vacant.clear();
    roll_.steps.clear();  // they drain with all the others
    if (roll_.active) end_roll("the cluster shuts down");
    return;
  }
  if (!roll_.active) {
    if (!roll_.next || successor_ || predecessor_) return;  // one thing at a time
    begin_roll();
  }
  look_at_steps();
  while (roll_.active && roll_.steps.size() < roll_.options.at_once && !recovering()) {
    if (!start_step()) break;
  }
  count_roll();
  if (roll_.active && roll_.steps.empty() && roll_.vacant.empty() && roll_.status.old == 0) end_roll("");
}

/// Ends the steps whose replacement is ready, or overdue, or no longer wanted since its predecessor leaves anyway.
void Cluster::Impl::look_at_steps() noexcept {
  for (size_t i = 0; i < roll_.steps.size();) {
    const Roll::Step& step = roll_.steps[i];
    WorkerRecord* old = supervisor_->find(step.old);
    WorkerRecord& fresh = *supervisor_->find(step.fresh);  // one that ends ends its step
    const bool unwanted = step.old != 0 && (old == nullptr || old->deadline_ns != 0);
    const bool ready = fresh.came_online && fresh.listens >= step.recipe.listens;
    if (!unwanted && (ready ? recovering() : now_ns() < step.deadline_ns)) {
      ++i;
      continue;
    }
    if (!unwanted && !ready)
      return end_roll("worker " + std::to_string(fresh.id) + " " +
                      (fresh.came_online ? "listens on " : "did not come online, let alone listen on ") +
                      (fresh.came_online ? std::to_string(fresh.listens) + " of " : "") + std::to_string(step.recipe.listens) +
                      " endpoints after " + std::to_string(roll_.options.ready_deadline.count()) + " ms");
    const uint32_t replaced = step.old;
    roll_.steps.erase(roll_.steps.begin() + static_cast<std::ptrdiff_t>(i));
    WorkerRecord* leaver = unwanted ? &fresh : old;
    if (!unwanted) {
      ++roll_.status.replaced;
      tell_roll(Event::Kind::roll_step, &fresh, replaced);
    }
    if (leaver == nullptr) continue;
    leaver->retired = true;
    start_drain(*leaver, false, roll_.options.drain_deadline.value_or(options_.drain_deadline));
  }
}

/// A replacement crashed, after its step, and is not back yet.
bool Cluster::Impl::recovering() const noexcept {
  if (supervisor_->respawning()) return true;
  return std::any_of(supervisor_->workers().begin(), supervisor_->workers().end(), [this](const auto& worker) {
    return worker->recipe.generation == generation_ && worker->crashes != 0 && worker->deadline_ns == 0 &&
           worker->listens < worker->recipe.listens;
  });
}

/// False when there is nobody to replace, or no slot for now: those that drain will leave some.
bool Cluster::Impl::start_step() noexcept {
  Roll::Step step;
  const auto found = std::find_if(supervisor_->workers().begin(), supervisor_->workers().end(),
                                  [this](const auto& worker) { return to_be_replaced(*worker); });
  const bool crashed = !roll_.vacant.empty();
  if (crashed) {
    step.recipe = roll_.vacant.back();
  } else {
    if (found == supervisor_->workers().end()) return false;
    step.old = (*found)->id;
    step.recipe = (*found)->recipe;
  }
  Recipe recipe = step.recipe;
  recipe.generation = generation_;
  add_environment(recipe, roll_.options.env);
  auto fresh = supervisor_->spawn(std::move(recipe));
  if (!fresh && fresh.error().code == ENOSPC && draining_any()) return false;
  if (!fresh) {
    end_roll(fresh.error().message());
    return false;
  }
  if (crashed) roll_.vacant.pop_back();
  step.fresh = (*fresh)->id;
  step.deadline_ns = now_ns() + to_ns(roll_.options.ready_deadline);
  roll_.steps.push_back(std::move(step));
  return true;
}

bool Cluster::Impl::draining_any() const noexcept {
  return std::any_of(supervisor_->workers().begin(), supervisor_->workers().end(),
                     [](const auto& worker) { return worker->deadline_ns != 0; });
}

void Cluster::Impl::count_roll() noexcept {
  if (!roll_.active) return;
  roll_.status.starting = static_cast<unsigned>(roll_.steps.size());
  roll_.status.old = roll_.status.draining = 0;
  for (const auto& worker : supervisor_->workers()) {
    if (!outdated(*worker)) continue;
    ++roll_.status.old;
    roll_.status.draining += worker->deadline_ns != 0 ? 1 : 0;
  }
}

int Cluster::Impl::roll_turn_ms() const noexcept {
  if (!roll_.active) return roll_.next && !successor_ && !predecessor_ ? 0 : -1;
  uint64_t next = UINT64_MAX;
  for (const auto& step : roll_.steps) next = std::min(next, step.deadline_ns);
  return ms_until(next);
}

/// Done, or stopped for a reason: then what has not come up goes, and what crashed meanwhile comes back as it was. A replacement that
/// was given a listening socket may have connections in hand, wherever else it was still to listen: it finishes them.
void Cluster::Impl::end_roll(std::string reason) noexcept {
  roll_.active = false;
  for (Roll::Step& step : std::exchange(roll_.steps, {})) {
    if (WorkerRecord* fresh = supervisor_->find(step.fresh); fresh != nullptr && !fresh->exited) {
      fresh->retired = true;
      if (listeners_->granted(fresh->seat())) {
        start_drain(*fresh, false, roll_.options.drain_deadline.value_or(options_.drain_deadline));
      } else {
        fresh->ended_by = SIGKILL;
        supervisor_->kill(*fresh);
      }
    }
    if (step.old == 0) supervisor_->respawn(std::move(step.recipe));
  }
  for (Recipe& recipe : std::exchange(roll_.vacant, {})) supervisor_->respawn(std::move(recipe));
  if (reason.empty() && last_recipe_) add_environment(*last_recipe_, roll_.options.env);
  count_roll();
  roll_.status.state = reason.empty() ? RollStatus::State::done : RollStatus::State::failed;
  roll_.status.reason = std::move(reason);
  roll_.status.starting = 0;
  roll_.status.queued = roll_.next.has_value();
  tell_roll(roll_.status.reason.empty() ? Event::Kind::roll_done : Event::Kind::roll_failed);
}

/// A worker has ended while a roll runs; true: it is the roll's to replace.
bool Cluster::Impl::lost_in_roll(const WorkerRecord& worker, const ExitStatus& status, bool expected) noexcept {
  if (!roll_.active) return false;
  for (Roll::Step& step : roll_.steps) {
    if (step.fresh == worker.id) {
      end_roll("worker " + std::to_string(worker.id) + ", to replace " +
               (step.old == 0 ? "one that crashed" : "worker " + std::to_string(step.old)) + ", " + how_it_ended(status) +
               " before it listened");
      return true;
    }
    if (step.old == worker.id && !expected) {
      step.old = 0;
      return true;
    }
  }
  if (expected || !outdated(worker) || worker.deadline_ns != 0 || !options_.respawn) return false;
  roll_.vacant.push_back(worker.recipe);
  return true;
}

}  // namespace lb
