// SPDX-License-Identifier: MIT
#include "primary/supervisor.hh"

#include <algorithm>

#include "sys/error.hh"
#include "sys/forked.hh"
#include "wire/user_channel.hh"

namespace lb {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kStable_ns = 10'000'000'000;  // a worker that lived this long has not crashed "in a row"
constexpr milliseconds kBackoffFirst{100};
constexpr milliseconds kBackoffMax{10'000};
constexpr uint64_t kWithheld_ns = 1'000'000'000;  // patience with a debugger that has yet to hear how a worker ended
constexpr uint64_t kReapAgain_ns = 10'000'000;
constexpr uint32_t kNoSlot = UINT32_MAX;

}  // namespace

Supervisor::Supervisor(Options& options, Surroundings& around) noexcept : options_(options), around_(around) {
  ::sigprocmask(SIG_SETMASK, nullptr, &worker_mask_);
}

/// The records stay in memory, but what the user's functions hold is let go of.
void Supervisor::disown_workers() noexcept {
  std::vector<int> open;
  for (auto& worker : workers_) {
    if (worker->recipe.kind == WorkerKind::thread || worker->recipe.kind == WorkerKind::primary) {
      worker.reset();
      continue;
    }
    for (const int fd : {worker->channel.fd(), worker->messages.get(), worker->life->exit_fd()})
      if (fd >= 0) open.push_back(fd);
    std::destroy_at(&worker->recipe);
  }
  close_all(std::move(open));
  leave(std::move(workers_));
}

std::optional<uint32_t> Supervisor::free_slot() const noexcept {
  for (uint32_t slot = 0; slot < around_.scoreboard.slots(); ++slot)
    if (std::none_of(workers_.begin(), workers_.end(), [=](const auto& worker) { return worker->slot == slot; }) &&
        std::none_of(lost_.begin(), lost_.end(), [=](const Lost& lost) { return lost.slot == slot; }))
      return slot;
  return std::nullopt;
}

/// The one that has the fewest of the workers; among equals they take turns, so that a rolling restart keeps them spread.
std::optional<unsigned> Supervisor::next_cpu() noexcept {
  const auto& cpus = options_.pin_cpus;
  if (cpus.empty()) return std::nullopt;
  const auto load = [&](size_t at) {
    const auto same = std::count(cpus.begin(), cpus.begin() + static_cast<std::ptrdiff_t>(at), cpus[at]);  // named several times
    const auto workers =
        std::count_if(workers_.begin(), workers_.end(), [&](const auto& worker) { return worker->cpu == cpus[at]; });
    return workers - same;
  };
  size_t best = last_cpu_ % cpus.size();
  for (size_t i = 1; i < cpus.size(); ++i) {
    const size_t at = (last_cpu_ + i) % cpus.size();
    if (load(at) < load(best)) best = at;
  }
  last_cpu_ = best + 1;
  return cpus[best];
}

WorkerRecord* Supervisor::find(uint32_t id) noexcept {
  for (auto& worker : workers_)
    if (worker->id == id) return worker.get();
  return nullptr;
}

bool Supervisor::holds(pid_t pid) const noexcept {
  return std::any_of(workers_.begin(), workers_.end(), [=](const auto& worker) { return worker->pid == pid; });
}

Result<WorkerRecord*> Supervisor::spawn(Recipe recipe, unsigned crashes) noexcept {
  const auto slot = free_slot();
  if (!slot) {
    const std::string slots = std::to_string(around_.scoreboard.slots());
    return error_naming(ENOSPC, "spawn: all " + slots + " slots are taken, two for each of Options::workers_max");
  }
  recipe.drops_capabilities = options_.privileges != Options::Privileges::keep;
  if (options_.privileges == Options::Privileges::all_drop && (recipe.command.uid || recipe.command.gid))
    return Error{EINVAL, "spawn: Command::uid or gid, which a replacement could not take once Options::privileges has dropped all"};
  auto ends = make_channel();
  if (!ends) return ends.error();
  auto messages = make_user_channel();
  if (!messages) return messages.error();

  auto record = std::make_unique<WorkerRecord>();
  record->id = ++last_id_;
  record->slot = *slot;
  record->recipe = recipe;
  record->crashes = crashes;
  if (recipe.kind != WorkerKind::primary) record->cpu = next_cpu();
  record->started_ns = now_ns();
  record->newcomer =
      std::any_of(workers_.begin(), workers_.end(), [](const auto& w) { return w->state == WorkerState::listening; });
  record->channel = Channel(std::move(ends->first));
  record->messages = std::move(messages->first);
  around_.scoreboard.vacate(*slot);
  around_.scoreboard.set_weight(*slot, recipe.weight);
  around_.scoreboard.set_share(*slot, 0);

  Message welcome;
  welcome.act = Act::welcome;
  welcome.value[0] = *slot;
  welcome.value[1] = around_.scoreboard.slots();
  welcome.value[2] = on_user_message ? 1 : 0;
  // A thread of ours does not outlive us.
  const bool process = recipe.kind == WorkerKind::forked || recipe.kind == WorkerKind::command;
  const auto patience_ms = std::clamp<int64_t>(options_.drain_deadline.count(), 1, UINT32_MAX);
  welcome.value[3] = process ? static_cast<uint32_t>(patience_ms) : 0;
  welcome.value[4] = record->cpu ? *record->cpu + 1 : 0;
  const int fds[] = {around_.scoreboard.worker_pages_fd(), around_.scoreboard.primary_page_fd(), around_.doorbell,
                     messages->second.get()};
  if (auto sent = record->channel.send(welcome, fds); !sent) return sent.error();
  messages->second.reset();  // it travels with the welcome

  auto life = launch(record, std::move(ends->second), recipe);
  if (!life) return life.error();
  record->life = std::move(*life);
  record->pid = record->life->pid();
  if (auto watched = watch(*record); !watched) {
    dismiss(*record);
    return watched.error();
  }
  workers_.push_back(std::move(record));
  return workers_.back().get();
}

Result<void> Supervisor::watch(WorkerRecord& worker) noexcept {
  const auto add = [this](EventLoop::Token& token, int fd, EventLoop::OnReadable on_readable) -> Result<void> {
    auto watched = around_.loop.watch(fd, std::move(on_readable));
    if (!watched) return watched.error();
    token = *watched;
    return {};
  };
  if (auto added = add(worker.exit_token, worker.life->exit_fd(), [&worker] { worker.exited = true; }); !added) return added;
  if (auto added = add(worker.channel_token, worker.channel.fd(), [this, &worker] { on_message(worker); }); !added) return added;
  if (!on_user_message) return {};
  return add(worker.messages_token, worker.messages.get(), [this, &worker] { on_user_message(worker); });
}

/// One whose end nobody would hear of: it ends here and now, and is in no book. A thread goes on until it sees that its channel is closed.
void Supervisor::dismiss(WorkerRecord& worker) noexcept {
  cut_channel(worker);
  cut_messages(worker);
  around_.loop.cancel(worker.exit_token);
  if (worker.recipe.kind == WorkerKind::thread) return remember_lost(worker);
  if (worker.life->signal(SIGKILL)) (void)worker.life->reap();
}

/// A forked child lets go of the record and of *this within it, so nothing of either is touched there afterwards.
Result<std::unique_ptr<Life>> Supervisor::launch(std::unique_ptr<WorkerRecord>& record, UniqueFd channel,
                                                 const Recipe& recipe) noexcept {
  const uint32_t id = record->id;
  switch (recipe.kind) {
    case WorkerKind::forked:
      return launch_fork(id, std::move(channel), recipe, worker_mask_, around_.loop, [this, &record] {
        record.reset();
        const auto let_go = std::move(abandon);
        let_go();  // destroys *this
      });
    case WorkerKind::command:
      return launch_command(id, std::move(channel), recipe, worker_mask_);
    case WorkerKind::thread:
      return launch_thread(id, std::move(channel), recipe);
    case WorkerKind::primary:
      return launch_seat(id, std::move(channel));
  }
  return Error{EINVAL, "spawn: kind of worker"};
}

Result<void> Supervisor::tell(WorkerRecord& worker, Message& message, std::span<const int> fds, std::string_view payload) noexcept {
  if (!worker.channel) return Error{EPIPE, "control channel"};
  return worker.channel.send(message, fds, payload);
}

void Supervisor::cut_channel(WorkerRecord& worker) noexcept {
  around_.loop.cancel(worker.channel_token);
  worker.channel.close();
}

void Supervisor::cut_messages(WorkerRecord& worker) noexcept {
  if (worker.messages_token != 0) around_.loop.cancel(std::exchange(worker.messages_token, 0));
  worker.messages.reset();
}

void Supervisor::kill(WorkerRecord& worker) noexcept {
  if (worker.exited || worker.life->signal(SIGKILL).error().code != EOPNOTSUPP) return;
  worker.lost = worker.exited = true;  // a thread: it goes on until it ends by itself
}

void Supervisor::end_all() noexcept {
  for (auto& worker : workers_) {
    (void)worker->life->signal(SIGKILL);
    if (worker->channel) cut_channel(*worker);
  }
  for (auto& worker : workers_)
    if (!worker->lost) (void)worker->life->reap();
  for (Lost& lost : lost_)
    if (lost.look_ns != 0) (void)lost.life->try_reap();
}

/// The primary never waits for it: the end of one that is traced is its debugger's to hear of first.
bool Supervisor::is_over(WorkerRecord& worker) noexcept {
  if (worker.lost) return true;
  auto status = worker.life->try_reap();
  if (status && !*status) {
    const uint64_t now = now_ns();
    if (worker.reap_until_ns == 0) {
      around_.loop.cancel(std::exchange(worker.exit_token, 0));  // readable from now on
      worker.reap_until_ns = now + kWithheld_ns;
    }
    return worker.lost = now >= worker.reap_until_ns;
  }
  worker.status = status ? **status : ExitStatus{};
  return true;
}

std::optional<Supervisor::Departed> Supervisor::next_departed() noexcept {
  reap_lost();
  const auto found =
      std::find_if(workers_.begin(), workers_.end(), [this](auto& worker) { return worker->exited && is_over(*worker); });
  if (found == workers_.end()) return std::nullopt;
  Departed departed{std::move(*found), {}};
  workers_.erase(found);
  WorkerRecord& worker = *departed.worker;
  around_.loop.cancel(worker.exit_token);
  cut_messages(worker);
  departed.status = worker.status.value_or(ExitStatus{1, 0});
  if (worker.lost) remember_lost(worker);
  return departed;
}

void Supervisor::remember_lost(WorkerRecord& worker) noexcept {
  const uint32_t slot = worker.slot;
  if (worker.reap_until_ns != 0) return lost_.push_back({slot, std::move(worker.life), 0, now_ns() + kWithheld_ns});
  auto token = around_.loop.watch(worker.life->exit_fd(), [this, slot] { forget_lost(slot); });
  lost_.push_back({slot, std::move(worker.life), token ? *token : EventLoop::Token{}, 0});
}

void Supervisor::forget_lost(uint32_t slot) noexcept {
  const auto found = std::find_if(lost_.begin(), lost_.end(), [=](const Lost& lost) { return lost.slot == slot; });
  if (found == lost_.end()) return;
  around_.loop.cancel(found->token);
  (void)found->life->reap();
  lost_.erase(found);
}

void Supervisor::reap_later(std::unique_ptr<Life> life) noexcept {
  lost_.push_back({kNoSlot, std::move(life), 0, now_ns() + kReapAgain_ns});
}

void Supervisor::reap_lost() noexcept {
  const uint64_t now = now_ns();
  std::erase_if(lost_, [=](Lost& lost) {
    if (lost.look_ns == 0 || now < lost.look_ns) return false;
    lost.look_ns = now + kWithheld_ns;
    const auto status = lost.life->try_reap();
    return !status || status->has_value();
  });
}

milliseconds Supervisor::schedule_respawn(const WorkerRecord& crashed) noexcept {
  const bool stable = now_ns() - crashed.started_ns > kStable_ns;
  const unsigned crashes = stable ? 1 : crashed.crashes + 1;
  milliseconds pause{0};
  if (crashes > 1) pause = std::min(kBackoffMax, kBackoffFirst * (1U << std::min(crashes - 2, 10U)));
  respawns_.push_back({now_ns() + to_ns(pause), crashes, crashed.recipe});
  return pause;
}

std::vector<Recipe> Supervisor::take_respawns() {
  std::vector<Recipe> recipes;
  for (Respawn& respawn : std::exchange(respawns_, {})) recipes.push_back(std::move(respawn.recipe));
  return recipes;
}

void Supervisor::respawn_due() noexcept {
  for (size_t i = 0; i < respawns_.size();) {
    if (now_ns() < respawns_[i].due_ns) {
      ++i;
      continue;
    }
    Respawn due = std::move(respawns_[i]);
    respawns_.erase(respawns_.begin() + static_cast<std::ptrdiff_t>(i));
    if (spawn(due.recipe, due.crashes)) continue;
    due.due_ns = now_ns() + 1'000'000'000;  // no process or descriptor to be had just now
    respawns_.push_back(std::move(due));
  }
}

int Supervisor::next_turn_ms() const noexcept {
  uint64_t next = UINT64_MAX;
  for (const auto& respawn : respawns_) next = std::min(next, respawn.due_ns);
  for (const auto& worker : workers_) {
    if (worker->exited && worker->reap_until_ns == 0) return 0;
    if (worker->exited)
      next = std::min(next, now_ns() + kReapAgain_ns);
    else if (worker->deadline_ns != 0)
      next = std::min(next, worker->deadline_ns);
    else if (worker->gone_by_ns != 0)
      next = std::min(next, worker->gone_by_ns);
  }
  for (const Lost& lost : lost_)
    if (lost.look_ns != 0) next = std::min(next, lost.look_ns);
  return ms_until(next);
}

}  // namespace lb
