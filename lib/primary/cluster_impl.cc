// SPDX-License-Identifier: MIT
#include "primary/cluster_impl.hh"

#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cstdlib>

#include "backends/reuseport_program.hh"
#include "primary/options.hh"
#include "sys/capabilities.hh"
#include "sys/error.hh"
#include "sys/process.hh"
#include "worker/worker_impl.hh"

namespace lb {
namespace {

using std::chrono::milliseconds;

constexpr int kClosingPoll_ms = 2;
constexpr int kOrphansPoll_ms = 1000;
constexpr const char* kElsewhere = "cluster: used in a process that was forked from the one that made it (a daemon forks first)";

}  // namespace

Result<std::unique_ptr<Cluster::Impl>> Cluster::Impl::create(Options options) noexcept {
  if (auto valid = validate(options); !valid) return valid.error();
  note_own_program();
  auto policy = Policy::from_environment(options.policy);
  if (!policy) return policy.error();
  if (policy->selector == Selector::custom && !options.selector)
    return Error{EINVAL,
                 "policy round-robin:custom, of LB_SCHED_POLICY or Options::policy: the program supplies no Options::selector"};
  std::unique_ptr<Impl> cluster(new Impl(std::move(options)));
  cluster->policy_ = *policy;
  if (auto opened = cluster->open(strict_from_environment()); !opened) return opened.error();
  return cluster;
}

Result<void> Cluster::Impl::open(bool strict) noexcept {
  if (auto uring = EventLoop::create_uring()) {
    loop_ = std::move(*uring);
  } else {
    loop_reason_ = uring.error().message();
    auto epoll = EventLoop::create_epoll();
    if (!epoll) return epoll.error();
    loop_ = std::move(*epoll);
  }
  auto doorbell = Doorbell::create();
  if (!doorbell) return doorbell.error();
  doorbell_ = std::move(*doorbell);

  UniqueFd pages;  // where BPF can read them, whatever the policy: it may change
  if (auto map = create_worker_pages_map()) pages = std::move(*map);
  auto board = Scoreboard::create(std::move(pages), 2 * std::max(options_.workers, options_.workers_max));
  if (!board) return board.error();
  scoreboard_ = std::move(*board);

  around_.emplace(Surroundings{*loop_, loop_reason_, scoreboard_, doorbell_.fd(), options_.window, options_.queue_max,
                               options_.max_in_flight, options_.selector ? &options_.selector : nullptr, options_.stealing, strict,
                               [this](uint32_t id, Message& message, std::span<const int> fds) -> Result<void> {
                                 WorkerRecord* worker = supervisor_->find(id);
                                 if (worker == nullptr) return Error{ESRCH, "worker"};
                                 return supervisor_->tell(*worker, message, fds);
                               },
                               inherited_, [this](uint32_t cell, Event::Kind kind) { report(cell, kind); }});
  supervisor_.emplace(options_, *around_);
  supervisor_->abandon = [this] { abandon(); };
  supervisor_->on_message = [this](WorkerRecord& worker) { receive(worker); };
  if (options_.on_message) supervisor_->on_user_message = [this](WorkerRecord& worker) { receive_messages(worker); };
  listeners_.emplace(*around_, policy_, options_.without_workers);
  slow_start_.emplace(options_, *supervisor_, scoreboard_, *listeners_);
  shed_.emplace(options_, *supervisor_, scoreboard_);
  listeners_->on_change = [this](const EndpointStatus& endpoint, const char* why_not) {
    if (!options_.on_event) return;
    Event event;
    event.kind = *why_not == '\0' ? Event::Kind::policy_changed : Event::Kind::policy_not_changed;
    event.endpoint = &endpoint;
    event.reason = why_not;
    options_.on_event(event);
  };

  auto token = loop_->watch(doorbell_.fd(), [this] { doorbell_.silence(); });
  if (!token) return token.error();
  alarm_ = UniqueFd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!alarm_) return last_error("timerfd_create");
  token = loop_->watch(alarm_.get(), [this] {
    uint64_t expirations = 0;
    (void)!::read(alarm_.get(), &expirations, sizeof expirations);
  });
  if (!token) return token.error();
  // Workers ring the doorbell only while this says that nobody would look otherwise: announce the sleep, then look once more.
  auto& awake = atomic(scoreboard_.primary().awake);
  loop_->may_sleep = [this, &awake] {
    awake.store(0);
    const auto sleep = listeners_->may_sleep();
    if (sleep == EventLoop::Sleep::no) awake.store(1);
    return sleep;
  };
  loop_->bell = doorbell_.fd();
  loop_->woke = [&awake] { awake.store(1); };

  if (std::getenv(kUpgradeVariable) == nullptr)  // else the one before us still has it
    if (auto opened = open_admin_socket(); !opened) return opened;
  auto inherited = InheritedSockets::take();  // late: whoever tries again after an error finds the environment untouched
  if (!inherited) return inherited.error();
  inherited_ = std::move(*inherited);
  return meet_predecessor();
}

Cluster::Impl::~Impl() {
  *self_ = nullptr;
  if (abandoned_ || !supervisor_) return;
  if (elsewhere()) {  // then the workers are the parent's
    abandon();
    return;
  }
  if (successor_) end_upgrade("the cluster ended");
  supervisor_->end_all();
}

/// In a forked child, a worker or not: the primary's descriptors and mappings close here without a word to anybody.
void Cluster::Impl::abandon() noexcept {
  abandoned_ = true;
  *self_ = nullptr;
  loop_->abandon();
  admin_.reset();
  successor_.reset();
  predecessor_.reset();
  listeners_.reset();
  supervisor_->disown_workers();
  supervisor_.reset();
  around_.reset();
  loop_.reset();
  inherited_.close_passed();
  scoreboard_ = Scoreboard();
  doorbell_ = Doorbell();
  signals_.reset();
  alarm_.reset();
}

Result<void> Cluster::Impl::watch_signals(UniqueFd signals, std::function<void(int signal)> on_signal) noexcept {
  signals_ = std::move(signals);
  auto token = loop_->watch(signals_.get(), [this, on_signal = std::move(on_signal)] {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) > 0) on_signal(static_cast<int>(info.ssi_signo));
  });
  if (!token) return token.error();
  return {};
}

Result<uint32_t> Cluster::Impl::spawn(Recipe recipe) noexcept {
  if (elsewhere()) return Error{EPERM, kElsewhere};
  if (phase_ != Phase::serving) return Error{ESHUTDOWN, "spawn: the cluster shuts down"};
  recipe.generation = generation_;
  last_recipe_ = recipe;
  auto worker = supervisor_->spawn(std::move(recipe));
  if (!worker) return worker.error();
  return (*worker)->id;
}

/// While such a worker waits for the primary's answer, which its own thread is to give, the primary goes on.
Result<Worker> Cluster::Impl::join() noexcept {
  if (elsewhere()) return Error{EPERM, kElsewhere};
  if (phase_ != Phase::serving) return Error{ESHUTDOWN, "join: the cluster shuts down"};
  Recipe recipe;
  recipe.kind = WorkerKind::primary;
  recipe.generation = generation_;
  auto worker = supervisor_->spawn(std::move(recipe));
  if (!worker) return worker.error();
  auto seat = take_seat(*(*worker)->life);
  seat->in_primary([self = self_]() -> Result<void> {
    if (*self == nullptr) return Error{EPIPE, "the primary is gone"};
    return (*self)->turn(milliseconds(-1));
  });
  return Worker(std::move(seat));
}

Result<void> Cluster::Impl::turn(milliseconds timeout) noexcept {
  if (elsewhere()) return Error{EPERM, kElsewhere};
  tell_spawned();
  const int wanted = next_turn_ms();
  int wait = timeout.count() < 0 ? -1 : static_cast<int>(std::min<int64_t>(timeout.count(), 1'000'000'000));
  if (wanted >= 0 && (wait < 0 || wanted < wait)) wait = wanted;
  if (auto turned = loop_->turn(wait); !turned) return turned;
  bury_departed();
  listeners_->turn();
  tell_drains();
  end_cut_off();
  advance_upgrade();
  advance_takeover();
  advance_shutdown();
  if (admin_) admin_->turn();
  advance_roll();              // forks: outside any callback
  supervisor_->respawn_due();  // so does this,
  advance_scale();             // and this
  shed_->advance();
  slow_start_->advance();
  tell_spawned();
  if (auto dropped = drop_when_started(); !dropped) return dropped;
  if (options_.reap_orphans)
    reap_others([this](pid_t pid) { return supervisor_->holds(pid) || (successor_ && successor_->life().pid() == pid); });
  return {};
}

void Cluster::Impl::prepare_to_be_polled() noexcept {
  if (elsewhere()) return;
  loop_->flush();
  if (loop_->may_sleep() == EventLoop::Sleep::no) Doorbell::ring(doorbell_.fd());  // ourselves: there is work already
  const int wanted = next_turn_ms();
  if (wanted < 0 && !alarm_set_) return;
  itimerspec when{};  // all zero: off
  if (wanted >= 0) when.it_value = {wanted / 1000, (wanted % 1000) * 1'000'000L + 1};
  alarm_set_ = wanted >= 0;
  ::timerfd_settime(alarm_.get(), 0, &when, nullptr);
}

void Cluster::Impl::wake_poller() noexcept {
  if (!polled_ || elsewhere()) return;
  loop_->flush();
  Doorbell::ring(doorbell_.fd());
}

int Cluster::Impl::next_turn_ms() const noexcept {
  int next = phase_ == Phase::closing ? kClosingPoll_ms : options_.reap_orphans ? kOrphansPoll_ms : -1;
  for (const int wanted :
       {supervisor_->next_turn_ms(), const_cast<Listeners&>(*listeners_).next_turn_ms(), roll_turn_ms(), scale_turn_ms(),
        shed_->next_turn_ms(), slow_start_->next_turn_ms(), upgrade_turn_ms(), admin_ ? admin_->next_turn_ms() : -1})
    if (wanted >= 0 && (next < 0 || wanted < next)) next = wanted;
  return next;
}

void Cluster::Impl::emit(Event::Kind kind, WorkerRecord& worker, Event event) noexcept {
  if (!options_.on_event) return;
  if (!std::exchange(worker.spawn_told, true) && kind != Event::Kind::spawned) emit(Event::Kind::spawned, worker);
  event.kind = kind;
  event.worker = worker.id;
  event.pid = worker.pid;
  options_.on_event(event);
}

void Cluster::Impl::report(uint32_t cell, Event::Kind kind) noexcept {
  if (!options_.on_event) return;
  const EndpointStatus endpoint = listeners_->describe(cell);
  Event event;
  event.kind = kind;
  event.endpoint = &endpoint;
  options_.on_event(event);
}

/// Once what needs privileges is done, as far as can be known: the first workers listen.
Result<void> Cluster::Impl::drop_when_started() noexcept {
  if (options_.privileges != Options::Privileges::all_drop || dropped_) return {};
  const auto& workers = supervisor_->workers();
  const auto listening =
      std::count_if(workers.begin(), workers.end(), [](const auto& worker) { return worker->state == WorkerState::listening; });
  if (static_cast<unsigned>(listening) < std::max(1U, options_.workers)) return {};
  if (auto reserved = listeners_->reserve(); !reserved) return reserved;
  dropped_ = true;
  return drop_capabilities();
}

Status Cluster::Impl::status() const {
  Status status;
  status.endpoints = listeners_->describe();
  status.workers = workers();
  status.generation = generation_;
  status.roll = roll_.status;
  if (scale_to_)
    status.scaling = "to " + std::to_string(*scale_to_) + " workers" + (scale_trouble_.empty() ? "" : ": " + scale_trouble_);
  status.upgrade = upgrade_;
  return status;
}

std::vector<WorkerStatus> Cluster::Impl::workers() const {
  std::vector<WorkerStatus> all;
  for (const auto& worker : supervisor_->workers()) {
    const auto& page = scoreboard_.page(worker->slot);
    WorkerStatus one{worker->id, worker->pid, worker->slot, worker->state, in_flight_of(page), 0};
    for (const auto& cell : page.cells) one.accepted += atomic(cell.accepted).load();
    one.kind = worker->recipe.kind;
    one.weight = worker->recipe.weight;
    if (const unsigned share = scoreboard_.share(worker->slot); share != 0) one.weight_percent = 100 * share / Scoreboard::kShares;
    one.reported = atomic(page.reported).load();
    one.generation = worker->recipe.generation;
    one.cpu = static_cast<int>(atomic(page.cpu).load()) - 1;
    one.connected = static_cast<bool>(worker->channel);
    one.exited_after_disconnect = worker->deadline_ns != 0 || worker->announced || worker->ended_by != 0;
    all.push_back(one);
  }
  return all;
}

}  // namespace lb
