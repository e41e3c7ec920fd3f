// SPDX-License-Identifier: MIT
// What a cluster does as its workers come, speak and go: control messages, drains, crashes, the shutdown.
#include <algorithm>
#include <iterator>

#include "primary/cluster_impl.hh"
#include "sys/error.hh"
#include "sys/process.hh"

namespace lb {
namespace {

using std::chrono::milliseconds;

constexpr int kMessagesInTurnMax = 64;                 // from one worker, so that none can keep the primary busy
constexpr unsigned kIdleTalkMax = 256;                 // messages in a worker's life that say nothing new: more is a flood
constexpr uint64_t kHandshakesMax_ns = 1'000'000'000;  // a shutdown's patience with handshakes that do not complete

}  // namespace

void Cluster::Impl::receive(WorkerRecord& worker) noexcept {
  Message message;
  Packet packet;
  for (int i = 0; i < kMessagesInTurnMax && worker.channel; ++i) {
    auto received = worker.channel.receive(message, packet, payload_);
    if (!received || packet.fd_count != 0 || packet.fds_lost ||
        (packet.state == Packet::State::received && !act_on(worker, message))) {
      supervisor_->kill(worker);  // it broke the protocol: its siblings go on
      supervisor_->cut_messages(worker);
      disconnect(worker);
      return;
    }
    if (packet.state == Packet::State::closed) {
      listeners_->draining(worker.seat());
      disconnect(worker);
      if (worker.state == WorkerState::listening) worker.state = WorkerState::draining;
      worker.gone_by_ns = now_ns() + to_ns(options_.drain_deadline);
    }
    if (packet.state != Packet::State::received) return;
  }
}

/// False when the worker must not say that, or floods us. What it may say again and again is bounded by what we answer: a worker that
/// does not read the answers is cut off too.
bool Cluster::Impl::act_on(WorkerRecord& worker, const Message& message) noexcept {
  if (message.payload_length != 0 && message.act != Act::query_listener) return false;
  switch (message.act) {
    case Act::online:
      if (std::exchange(worker.came_online, true)) return false;
      if (worker.state == WorkerState::spawned) worker.state = WorkerState::online;
      emit(Event::Kind::online, worker);
      return true;
    case Act::query_listener:
      if (phase_ == Phase::serving && withholds(message)) return withhold(worker, message);
      answer_query(worker, message);
      return true;
    case Act::listening: {
      if (worker.state == WorkerState::spawned || worker.state == WorkerState::online) slow_start_->begin(worker);
      const auto about = listeners_->listening(worker.seat(), message.endpoint);
      if (about == Listeners::About::nothing) return false;
      ever_listened_ = true;
      if (about == Listeners::About::listener) worker.recipe.listens = std::max(worker.recipe.listens, ++worker.listens);
      if (worker.deadline_ns != 0) {  // told to drain while it was starting
        listeners_->draining(worker.seat());
        return true;
      }
      if (about == Listeners::About::source) return true;
      shed_->begin();
      worker.state = WorkerState::listening;
      if (predecessor_) predecessor_->news_ns = now_ns();
      const EndpointStatus endpoint = listeners_->identify(message.endpoint);
      Event event;
      event.endpoint = &endpoint;
      emit(Event::Kind::listening, worker, event);
      return true;
    }
    case Act::close: {
      // One that drains leaves, as Node.js's disconnect does; the endpoint waits for another. Else the endpoint is given up.
      const bool leaves = phase_ == Phase::serving && worker.deadline_ns != 0;
      const auto about = listeners_->close(worker.seat(), message.endpoint, leaves);
      if (about == Listeners::About::listener && worker.listens != 0 && --worker.listens == 0 &&
          worker.state == WorkerState::listening)
        worker.state = WorkerState::online;
      return about != Listeners::About::nothing || ++worker.idle_talk <= kIdleTalkMax;
    }
    case Act::leaving:
      if (worker.deadline_ns != 0) return ++worker.idle_talk <= kIdleTalkMax;
      start_drain(worker, false, options_.drain_deadline);
      return true;
    case Act::exited_after_disconnect:
      return !std::exchange(worker.announced, true) || ++worker.idle_talk <= kIdleTalkMax;
    default:
      return false;
  }
}

void Cluster::Impl::answer_query(WorkerRecord& worker, const Message& question) noexcept {
  const PassingErrors passing;
  Message answer;
  answer.act = Act::listener;
  answer.acknowledged = question.sequence;
  auto refuse = [&](const Error& error) {
    answer.error = error.code;
    answer.set_text(error.op);
    if (!supervisor_->tell(worker, answer, {})) supervisor_->kill(worker);
  };
  if (phase_ != Phase::serving) return refuse({ESHUTDOWN, "listen: the cluster shuts down"});
  auto asked = ListenQuery::unpack(question);
  if (!asked) return refuse(asked.error());
  auto found = listeners_->query(worker.seat(), *asked);
  if (!found) return refuse(found.error());
  answer.endpoint = found->cell;
  answer.value[0] = static_cast<uint32_t>(found->grant.arrival);
  std::copy(std::begin(found->grant.value), std::end(found->grant.value), answer.value + 1);
  answer.set_text(found->address.to_string());
  const std::string& blob = listeners_->settle_blob(found->cell, {payload_.data(), question.payload_length});
  if (!supervisor_->tell(worker, answer, found->grant.fds, blob)) supervisor_->kill(worker);
}

void Cluster::Impl::start_drain(WorkerRecord& worker, bool all, milliseconds deadline) noexcept {
  worker.drain_all |= all;
  const uint64_t until_ns = now_ns() + to_ns(deadline);
  if (worker.deadline_ns != 0) {  // patience is not given back
    if (worker.deadline_ns != UINT64_MAX) worker.deadline_ns = std::min(worker.deadline_ns, until_ns);
    return;
  }
  worker.deadline_ns = until_ns;
  worker.state = WorkerState::draining;
  if (!all) scoreboard_.set_leaving(worker.slot, true);
  listeners_->draining(worker.seat());
  emit(Event::Kind::draining, worker);
  tell_drains();
}

/// Tells those that are to drain, again if their channel was full, and ends those that take too long.
void Cluster::Impl::tell_drains() noexcept {
  for (auto& worker : supervisor_->workers()) {
    if (worker->deadline_ns == 0 || worker->exited) continue;
    if (!worker->drain_told) {
      Message drain;
      drain.act = Act::drain;
      drain.value[0] = static_cast<uint32_t>(to_others_ ? Leaving::to_others : worker->drain_all ? Leaving::all : Leaving::alone);
      worker->drain_told = supervisor_->tell(*worker, drain, {}).ok();
    }
    if (now_ns() < worker->deadline_ns) continue;
    if (worker->retired)
      worker->ended_by = SIGKILL;
    else
      failed_ |= !to_others_;  // the next primary serves
    supervisor_->kill(*worker);
    worker->deadline_ns = UINT64_MAX;
  }
}

/// A worker that has let go of its channel can be asked for nothing any more, and is about to end: it may finish what it holds, as one
/// that drains. One that lives on regardless has crashed, and is replaced, unless it had said that it leaves.
void Cluster::Impl::end_cut_off() noexcept {
  for (auto& worker : supervisor_->workers()) {
    if (worker->gone_by_ns == 0 || worker->deadline_ns != 0 || worker->exited || now_ns() < worker->gone_by_ns) continue;
    supervisor_->kill(*worker);
    worker->gone_by_ns = UINT64_MAX;
    if (!worker->announced) continue;
    worker->deadline_ns = UINT64_MAX;
    failed_ |= !to_others_;
  }
}

/// No message of it is looked at any more; every worker gets here once.
void Cluster::Impl::disconnect(WorkerRecord& worker) noexcept {
  if (!worker.channel) return;
  supervisor_->cut_channel(worker);
  emit(Event::Kind::disconnected, worker);
}

/// Was that exit wanted, by us or by the worker? Else it is a crash.
bool Cluster::Impl::as_meant(const WorkerRecord& worker, const ExitStatus& status) const noexcept {
  if (worker.lost) return false;
  if (status.signal != 0) {
    // A new program has no handler yet for a signal that came to the whole process group.
    const bool too_early = phase_ != Phase::serving && !worker.came_online;
    return status.signal == worker.ended_by || (too_early && (status.signal == SIGTERM || status.signal == SIGINT));
  }
  return worker.deadline_ns != 0 || (worker.announced && status.code == 0);
}

void Cluster::Impl::tell_spawned() noexcept {
  for (auto& worker : supervisor_->workers())
    if (!worker->spawn_told) emit(Event::Kind::spawned, *worker);
}

void Cluster::Impl::bury_departed() noexcept {
  // What it said last still counts: an announced exit is not a crash.
  for (auto& worker : supervisor_->workers()) {
    if (worker->exited) receive_messages(*worker, true);
    if (worker->exited && worker->channel) receive(*worker);
  }
  while (auto departed = supervisor_->next_departed()) {
    WorkerRecord& worker = *departed->worker;
    disconnect(worker);
    const bool expected = as_meant(worker, departed->status);
    const bool replaceable = worker.deadline_ns == 0 && worker.recipe.kind != WorkerKind::primary;
    worker.state = WorkerState::gone;
    scoreboard_.set_leaving(worker.slot, true);
    listeners_->left(worker.seat());
    Event event;
    event.exit_code = departed->status.code;
    event.signal = departed->status.signal;
    event.expected = expected;
    emit(Event::Kind::exit, worker, event);
    if (lost_in_roll(worker, departed->status, expected) || expected) continue;
    // Replaced only if somebody once came as far as listening: a server that cannot start says so and ends.
    if (phase_ != Phase::serving || !replaceable || !options_.respawn || !ever_listened_) {
      failed_ |= !to_others_;  // the next primary serves: what becomes of those that leave is no failure of the upgrade
      continue;
    }
    const auto pause = supervisor_->schedule_respawn(worker);
    if (pause.count() == 0) continue;
    if (roll_.active && worker.recipe.generation == generation_)
      end_roll("worker " + std::to_string(worker.id) + ", of the new generation, crashes again and again");
    Event loop_event;
    loop_event.backoff = pause;
    emit(Event::Kind::crash_loop, worker, loop_event);
  }
}

Result<void> Cluster::Impl::drain(uint32_t id, milliseconds deadline) noexcept {
  WorkerRecord* worker = supervisor_->find(id);
  if (worker == nullptr) return error_naming(ESRCH, "drain worker " + std::to_string(id));
  if (deadline < milliseconds{0}) return error_naming(EINVAL, "drain worker " + std::to_string(id) + ": the deadline is negative");
  start_drain(*worker, false, deadline);
  return {};
}

Result<void> Cluster::Impl::kill(uint32_t id, int signal) noexcept {
  WorkerRecord* worker = supervisor_->find(id);
  if (worker == nullptr) return error_naming(ESRCH, "kill worker " + std::to_string(id));
  const bool inside = worker->recipe.kind == WorkerKind::thread || worker->recipe.kind == WorkerKind::primary;
  if (signal == SIGTERM && inside) {
    start_drain(*worker, false, options_.drain_deadline);
    return {};
  }
  auto sent = worker->life->signal(signal);
  if (sent && (signal == SIGTERM || signal == SIGKILL)) worker->ended_by = signal;
  if (!sent && sent.error().code == EINVAL) return error_naming(EINVAL, "kill: signal " + std::to_string(signal));
  return sent;
}

Result<void> Cluster::Impl::set_weight(uint32_t id, uint16_t weight) noexcept {
  WorkerRecord* worker = supervisor_->find(id);
  if (worker == nullptr) return error_naming(ESRCH, "weight of worker " + std::to_string(id));
  if (weight == 0) return error_naming(EINVAL, "weight of worker " + std::to_string(id) + ": 0 (allowed: 1 to 65535)");
  worker->recipe.weight = weight;
  scoreboard_.set_weight(worker->slot, weight);
  listeners_->weigh(worker->seat());
  return {};
}

void Cluster::Impl::shutdown() noexcept {
  if (phase_ != Phase::serving) return;
  phase_ = Phase::closing;
  closing_since_ns_ = now_ns();
  supervisor_->cancel_respawns();
  if (successor_) end_upgrade("the cluster shuts down");
  if (predecessor_ && predecessor_->stage != Predecessor::Stage::served) return give_back();
  listeners_->refuse_new();
}

/// First everybody who got in reaches a worker's queue; then the workers empty theirs and leave.
void Cluster::Impl::advance_shutdown() noexcept {
  if (phase_ != Phase::closing) return;
  const uint64_t waited = now_ns() - closing_since_ns_;
  const bool anybody = !supervisor_->workers().empty();
  const bool handshakes = waited < kHandshakesMax_ns;
  const bool quiet = to_others_ ? listeners_->left_nothing(handshakes) : listeners_->quiet(handshakes);
  if (anybody && waited < to_ns(options_.drain_deadline) / 2 && !quiet) return;
  phase_ = Phase::draining;
  for (auto& worker : supervisor_->workers()) start_drain(*worker, !to_others_, options_.drain_deadline);
}

void Cluster::Impl::kill() noexcept {
  if (successor_) end_upgrade("the cluster was killed");
  phase_ = Phase::draining;
  failed_ = true;
  supervisor_->cancel_respawns();
  for (auto& worker : supervisor_->workers()) supervisor_->kill(*worker);
}

/// A new primary that is to take over is worth waiting for, though nobody is left here: it would be killed with us.
bool Cluster::Impl::done() const noexcept {
  const bool more_to_come = supervisor_->respawning() || !roll_.vacant.empty() || (scale_to_ && phase_ == Phase::serving);
  return supervisor_->workers().empty() && !more_to_come && !successor_;
}

}  // namespace lb
