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

constexpr int kMessagesInTurnMax = 64;              // from one worker, so that none can keep the primary busy
constexpr uint64_t kHandshakesMax_ns = 1'000'000'000;  // a shutdown's patience with handshakes that do not complete

uint64_t to_ns(milliseconds time) { return static_cast<uint64_t>(time.count()) * 1'000'000; }

}  // namespace

void Cluster::Impl::receive(WorkerRecord& worker) noexcept {
  Message message;
  Packet packet;
  for (int i = 0; i < kMessagesInTurnMax && worker.channel; ++i) {
    auto received = worker.channel.receive(message, packet);
    if (!received || packet.fd_count != 0 || packet.fds_lost || (packet.state == Packet::State::received && !act_on(worker, message))) {
      supervisor_->kill(worker);  // it broke the protocol: its siblings go on
      supervisor_->cut_channel(worker);
      return;
    }
    if (packet.state == Packet::State::closed) {
      listeners_->draining(worker.seat());
      supervisor_->cut_channel(worker);
    }
    if (packet.state != Packet::State::received) return;
  }
}

/// False when the worker must not say that.
bool Cluster::Impl::act_on(WorkerRecord& worker, const Message& message) noexcept {
  switch (message.act) {
    case Act::online:
      if (worker.state == WorkerState::spawned) worker.state = WorkerState::online;
      emit(Event::Kind::online, worker);
      return true;
    case Act::query_listener:
      answer_query(worker, message);
      return true;
    case Act::listening: {
      if (!listeners_->listening(worker.seat(), message.endpoint)) return false;
      ever_listened_ = true;
      if (worker.deadline_ns != 0) {  // told to drain while it was starting
        listeners_->draining(worker.seat());
        return true;
      }
      worker.state = WorkerState::listening;
      const EndpointStatus endpoint = listeners_->describe(message.endpoint);
      Event event;
      event.endpoint = &endpoint;
      emit(Event::Kind::listening, worker, event);
      return true;
    }
    case Act::close:
      listeners_->close(worker.seat(), message.endpoint);
      return true;
    case Act::leaving:
      start_drain(worker, false);
      return true;
    case Act::exited_after_disconnect:
      worker.announced = true;
      return true;
    default:
      return false;
  }
}

void Cluster::Impl::answer_query(WorkerRecord& worker, const Message& question) noexcept {
  Message answer;
  answer.act = Act::listener;
  answer.acknowledged = question.sequence;
  auto refuse = [&](const Error& error) {
    answer.error = error.code;
    answer.set_text(error.op);
    (void)supervisor_->tell(worker, answer, {});
  };
  if (phase_ != Phase::serving) return refuse({ESHUTDOWN, "listen: the cluster shuts down"});
  auto endpoint = Endpoint::parse(question.get_text());
  if (!endpoint) return refuse(endpoint.error());
  auto found = listeners_->query(worker.seat(), *endpoint, question.value[0], static_cast<int>(question.value[1]),
                                 question.value[2] != 0);
  if (!found) return refuse(found.error());
  answer.endpoint = found->cell;
  answer.value[0] = static_cast<uint32_t>(found->grant.arrival);
  std::copy(std::begin(found->grant.value), std::end(found->grant.value), answer.value + 1);
  answer.set_text(found->address.to_string());
  if (!supervisor_->tell(worker, answer, found->grant.fds)) supervisor_->kill(worker);
}

void Cluster::Impl::start_drain(WorkerRecord& worker, bool all) noexcept {
  worker.drain_all |= all;
  if (worker.deadline_ns != 0) return;
  worker.deadline_ns = now_ns() + to_ns(options_.drain_deadline);
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
      drain.value[0] = worker->drain_all ? 1 : 0;
      worker->drain_told = supervisor_->tell(*worker, drain, {}).ok();
    }
    if (now_ns() < worker->deadline_ns) continue;
    failed_ = true;
    supervisor_->kill(*worker);
    worker->deadline_ns = UINT64_MAX;
  }
}

void Cluster::Impl::bury_departed() noexcept {
  // What it said last still counts: an announced exit is not a crash.
  for (auto& worker : supervisor_->workers())
    if (worker->exited && worker->channel) receive(*worker);
  while (auto departed = supervisor_->next_departed()) {
    WorkerRecord& worker = *departed->worker;
    const bool draining = worker.deadline_ns != 0;
    const bool expected = departed->status.signal == 0 && (draining || worker.announced);
    worker.state = WorkerState::gone;
    listeners_->left(worker.seat());
    Event event;
    event.exit_code = departed->status.code;
    event.signal = departed->status.signal;
    event.expected = expected;
    emit(Event::Kind::exit, worker, event);
    if (expected) continue;
    // Replaced only if somebody once came as far as listening: a server that cannot start says so and ends.
    if (phase_ != Phase::serving || draining || !options_.respawn || !ever_listened_) {
      failed_ = true;
      continue;
    }
    const auto pause = supervisor_->schedule_respawn(worker);
    if (pause.count() == 0) continue;
    Event loop_event;
    loop_event.backoff = pause;
    emit(Event::Kind::crash_loop, worker, loop_event);
  }
}

Result<void> Cluster::Impl::drain(uint32_t id) noexcept {
  WorkerRecord* worker = supervisor_->find(id);
  if (worker == nullptr) return error_naming(ESRCH, "drain worker " + std::to_string(id));
  start_drain(*worker, false);
  return {};
}

void Cluster::Impl::shutdown() noexcept {
  if (phase_ != Phase::serving) return;
  phase_ = Phase::closing;
  closing_since_ns_ = now_ns();
  supervisor_->cancel_respawns();
  listeners_->refuse_new();
}

/// First everybody who got in reaches a worker's queue; then the workers empty theirs and leave.
void Cluster::Impl::advance_shutdown() noexcept {
  if (phase_ != Phase::closing) return;
  const uint64_t waited = now_ns() - closing_since_ns_;
  const bool anybody = !supervisor_->workers().empty();
  if (anybody && waited < to_ns(options_.drain_deadline) / 2 && !listeners_->quiet(waited < kHandshakesMax_ns)) return;
  phase_ = Phase::draining;
  for (auto& worker : supervisor_->workers()) start_drain(*worker, true);
}

void Cluster::Impl::kill() noexcept {
  phase_ = Phase::draining;
  failed_ = true;
  supervisor_->cancel_respawns();
  for (auto& worker : supervisor_->workers()) supervisor_->kill(*worker);
}

bool Cluster::Impl::done() const noexcept { return supervisor_->workers().empty() && !supervisor_->respawning(); }

}  // namespace lb
