// SPDX-License-Identifier: MIT
// The reuseport backend: one SO_REUSEPORT socket for each slot, made and kept for life by the primary, so that a queue
// outlives its worker. A program in the kernel picks the slot for each connection. The workers' side is in
// worker/slot_acceptor; how the group passes on is in reuseport_succession. Down the ladder, each step said in the status: eBPF with
// the kernel's backlog, eBPF with what the workers publish, classic BPF, the kernel's own hash.
#include "backends/reuseport.hh"

#include <time.h>

#include <algorithm>

#include "backends/classic_program.hh"
#include "backends/heritage.hh"
#include "sys/error.hh"
#include "sys/process.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

constexpr int kInsertTries = 200;
constexpr timespec kInsertPause{0, 1'000'000};
constexpr int kStuck = 2;        // looks in a row that found a worker not coming for its queue
constexpr int kStuckAlone = 11;  // the same for a busy one whose queue is its own: about a second

}  // namespace

/// Slot 0 holds the address: bound alone first, so that a port in use is an error even among SO_REUSEPORT's friends.
/// Then, in this order: listen, attach, insert. (Attached before it listens, a socket gets a private group.)
Result<void> ReuseportBackend::open() noexcept {
  slots_.resize(around_.scoreboard.slots());
  auto socket = bind_to(request_.endpoint, {.v6only = request_.options.v6only, .more = &request_.options});
  if (!socket) return socket.error();
  if (auto allowed = allow_reuse_port(socket->get()); !allowed) return allowed;
  auto bound = local_address(socket->get());
  if (!bound) return bound.error();
  address_ = *bound;
  if (auto listening = listen_on(socket->get(), request_.options.backlog, address_); !listening) return listening;
  slots_[0].socket = std::move(*socket);
  slots_[0].place = sockets_++;
  return attach_program();
}

void ReuseportBackend::select(Selector selector) noexcept {
  request_.policy.selector = selector;
  if (program_) set_selector();
  publish_rules();
}

/// Workers look at them each time, so a change of selector needs no word to them.
void ReuseportBackend::publish_rules() noexcept {
  const bool judge = program_ && selector() == Selector::hermes;
  atomic(around_.scoreboard.primary().rules[request_.cell]).store((steals() ? LB_RULE_STEAL : 0) | (judge ? LB_RULE_JUDGE : 0));
}

Result<void> ReuseportBackend::attach_program() noexcept {
  if (selector() == Selector::hash) return {};
  if (!around_.scoreboard.in_bpf()) {
    auto map = create_worker_pages_map();  // the primary tried and failed: ask again for the reason
    return descend(map ? Error{ENOMEM, "eBPF worker pages"} : map.error());
  }
  auto program = ReuseportProgram::load(around_.scoreboard.worker_pages_fd(), ReuseportProgram::Rung::kernel_backlog);
  if (!program) return descend(program.error());
  const int socket = slots_[0].socket.get();
  if (auto attached = (*program)->attach(socket); !attached) return descend(attached.error());
  program_ = std::move(*program);
  for (uint32_t i = 0; i < slots_.size(); ++i)
    if (auto inserted = slots_[i].socket ? insert(i) : Result<void>(); !inserted) {
      program_.reset();
      return descend(inserted.error());
    }
  auto taken = make_memory("lb-taken", LB_MAX_SLOTS * sizeof(lb_slot_taken));
  if (!taken) return taken.error();
  taken_ = std::move(*taken);
  reason_ = program_->reason();
  if (around_.strict && program_->rung() != ReuseportProgram::Rung::kernel_backlog)
    return error_naming(EPERM, "LB_STRICT: reuseport without the kernel's backlog (" + reason_ + ")");
  program_->group().endpoint = request_.cell;
  set_selector();
  return {};
}

/// A socket may still be in the group of a program that was replaced a moment ago, and is being taken apart.
Result<void> ReuseportBackend::insert(uint32_t index) noexcept {
  auto inserted = program_->insert(index, slots_[index].socket.get());
  for (int i = 0; !inserted && inserted.error().code == EBUSY && i < kInsertTries; ++i) {
    ::nanosleep(&kInsertPause, nullptr);
    inserted = program_->insert(index, slots_[index].socket.get());
  }
  if (!inserted) return inserted;
  lb_group& group = program_->group();
  if (group.slot_count <= index) atomic(group.slot_count).store(index + 1);
  return {};
}

void ReuseportBackend::set_selector() noexcept { program_->group().selector = program_selector(selector()); }

/// To the rungs that need no privilege.
Result<void> ReuseportBackend::descend(Error why) noexcept {
  if (around_.strict) return error_naming(why.code, "LB_STRICT: reuseport without eBPF (" + std::string(why.op) + ")");
  reason_ = why.message();
  if (selector() == Selector::hermes) return {};  // the paper's own way out is the kernel's hash, without a program
  classic_ = true;
  attach_classic();
  return {};
}

void ReuseportBackend::attach_classic() noexcept {
  if (hold_ == Hold::lent) return;
  std::vector<uint32_t> places;
  for (const Slot& slot : slots_)
    if (slot.ready) places.push_back(slot.place);
  if (auto attached = attach_classic_program(slots_[0].socket.get(), places); !attached) {
    classic_ = false;
    reason_ += "; " + attached.error().message();
  }
}

Result<UniqueFd> ReuseportBackend::bind_slot() noexcept {
  return bind_to(address_, {.v6only = request_.options.v6only, .reuse_port = true, .more = &request_.options});
}

Result<void> ReuseportBackend::open_slot(uint32_t index) noexcept {
  Slot& slot = slots_[index];
  if (slot.socket) return {};
  const bool reserved = index < reserved_.size() && reserved_[index];
  auto socket = reserved ? Result<UniqueFd>(std::move(reserved_[index])) : bind_slot();
  if (!socket) return socket.error();
  if (auto listening = listen_on(socket->get(), request_.options.backlog, address_); !listening) return listening;
  slot.socket = std::move(*socket);
  if (program_)
    if (auto inserted = insert(index); !inserted) {
      slot.socket.reset();
      return inserted;
    }
  slot.place = sockets_++;
  if (ever_steals()) rescue_.introduce();
  return {};
}

/// Binding needs privileges on ports below 1024 and map creation does; listening, insertion and attaching do not. A socket joins the
/// group as it listens, so nobody is sent to these meanwhile.
Result<void> ReuseportBackend::reserve() noexcept {
  reserved_.resize(slots_.size());
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].socket || reserved_[i]) continue;
    auto socket = bind_slot();
    if (!socket) return socket.error();
    reserved_[i] = std::move(*socket);
  }
  return {};
}

Result<Grant> ReuseportBackend::grant(Seat seat) noexcept {
  if (seat.slot >= slots_.size()) return Error{ENOSPC, "reuseport: no slot left"};
  if (auto opened = open_slot(seat.slot); !opened) return opened.error();
  Slot& slot = slots_[seat.slot];
  slot.seat = seat;
  publish_rules();
  const bool looks = program_ || ever_steals();
  Grant grant{Arrival::slot_socket, {slot.socket.get()}, {program_ ? 1U : 0U, looks ? 1U : 0U, 0}};
  if (program_) grant.fds.insert(grant.fds.end(), {program_->picks_fd(), taken_.get()});
  if (looks) grant.fds.push_back(around_.scoreboard.worker_pages_fd());
  return grant;
}

Result<void> ReuseportBackend::set_backlog(int backlog) noexcept {
  for (const Slot& slot : slots_) {
    if (!slot.socket) continue;
    if (auto listening = listen_on(slot.socket.get(), backlog, address_); !listening) return listening;
  }
  request_.options.backlog = backlog;
  return {};
}

void ReuseportBackend::ready(Seat seat) noexcept {
  Slot& slot = slots_[seat.slot];
  if (slot.seat != seat) return;
  if (program_) program_->group().cpu[seat.slot] = static_cast<uint16_t>(atomic(around_.scoreboard.page(seat.slot).cpu).load());
  if (ever_steals()) rescue_.introduce_siblings(slot);
  rescue_.disown(seat.slot);
  weigh(seat);
  set_ready(seat.slot, true);
  rescue_.adopt_orphans();
}

void ReuseportBackend::weigh(Seat) noexcept {
  if (program_) publish_weights(program_->group(), around_.scoreboard);
}

void ReuseportBackend::draining(Seat seat) noexcept {
  if (slots_[seat.slot].seat != seat) return;
  set_ready(seat.slot, false);
  slots_[seat.slot].leaving = true;  // without a program the kernel goes on sending it connections; it may be busy for long
  rescue_.release(seat);
}

void ReuseportBackend::left(Seat seat) noexcept {
  Slot& slot = slots_[seat.slot];
  if (slot.seat != seat) return;
  set_ready(seat.slot, false);
  if (program_) program_->pardon(seat.slot);  // nobody's heartbeat would: what it was found guilty of would stay with the slot
  slot.vacate();
  rescue_.release(seat);
}

void ReuseportBackend::set_ready(uint32_t index, bool ready) noexcept {
  if (slots_[index].ready == ready) return;
  slots_[index].ready = ready;
  if (hold_ == Hold::queues || hold_ == Hold::none) return;
  if (program_) {
    auto& word = atomic(program_->group().ready[index / 64]);
    const uint64_t bit = uint64_t{1} << (index % 64);
    ready ? word.fetch_or(bit) : word.fetch_and(~bit);
  } else if (classic_) {
    attach_classic();
  }
}

bool ReuseportBackend::adopted_backlog(const Seat& seat) const noexcept {
  return std::any_of(slots_.begin(), slots_.end(),
                     [&](const Slot& slot) { return slot.adopter == seat && accept_queue_length(slot.socket.get()) != 0; });
}

/// A queue that its worker does not come for: it may hang, be stopped, be at one request for long, or have no descriptor left, while
/// another sleeps.
void ReuseportBackend::look_at(uint32_t index) noexcept {
  Slot& slot = slots_[index];
  const auto& page = around_.scoreboard.page(index);
  const uint64_t accepted = atomic(page.cells[request_.cell].accepted).load();
  const uint64_t heartbeat = atomic(page.heartbeat).load();
  const bool backlog = accept_queue_length(slot.socket.get()) != 0;
  const bool awaited = backlog || adopted_backlog(*slot.seat);
  slot.stuck = !awaited ? 0 : accepted != slot.accepted ? 1 : slot.stuck + 1;
  slot.accepted = accepted;
  const bool passed_over = left_out(index);
  const bool busy = in_flight(index) != 0;  // it may be at one long request: its load keeps it from being picked
  if (slot.ready && slot.stuck >= (busy && !passed_over && !steals() ? kStuckAlone : kStuck)) {
    rescue_.disown(index);  // it does not come for it either
    if (backlog) rescue_.find_adopter(index);
    slot.hung = !busy || passed_over;
    if (!busy) set_ready(index, false);
    rescue_.release(*slot.seat);  // nor does it come for others'
    rescue_.nudge(index);
  } else if (slot.hung && heartbeat != slot.heartbeat) {
    slot.hung = false;
    if (passed_over) program_->pardon(index);
    set_ready(index, true);
    rescue_.adopt_orphans();
  } else if (!slot.hung && passed_over) {
    slot.hung = true;  // or asleep: it gets nothing that would wake it
    rescue_.adopt_orphans();
    rescue_.nudge(index);
  }
  if (program_) atomic(program_->group().swept_at).store(static_cast<uint32_t>(now_ns() >> 20));
  if (!slot.hung && !backlog) rescue_.disown(index);
  slot.heartbeat = heartbeat;
}

void ReuseportBackend::refuse_new() noexcept {
  for (const Slot& slot : slots_)
    if (slot.socket) (void)drop_new_clients(slot.socket.get());
}

bool ReuseportBackend::quiet(bool handshakes) noexcept {
  return !handshakes || !refused_.under_way(static_cast<sa_family_t>(address_.family()), address_.port());
}

void ReuseportBackend::identify(EndpointStatus& status) const {
  status.reason = reason_;
  status.stealing = steals();
  status.effective = {Backend::reuseport, effective()};
  if (program_) {
    const bool top = program_->rung() == ReuseportProgram::Rung::kernel_backlog;
    status.rung = top ? "eBPF, kernel backlog" : "eBPF, in flight";
  } else {
    status.rung = classic_ ? "classic BPF" : "kernel hash";
  }
}

void ReuseportBackend::measure(EndpointStatus& status) const {
  status.strangers = guard_.strangers();
  status.reattached = guard_.reattached();
  if (program_) status.outcomes = outcomes_of(*program_);
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (!slot.socket) continue;
    const uint32_t backlog = accept_queue_length(slot.socket.get());
    status.queued += backlog;
    if (!slot.seat) continue;
    const auto& cell = around_.scoreboard.page(i).cells[request_.cell];
    const uint64_t picks = program_ ? atomic(program_->picks()[i].picks).load() : 0;
    status.workers.push_back({slot.seat->worker, i, atomic(cell.accepted).load(), backlog, picks, slot.hung || left_out(i)});
  }
}

Result<std::unique_ptr<EndpointBackend>> make_reuseport_backend(Surroundings& around, const ListenRequest& request,
                                                                Heritage* heritage) noexcept {
  auto backend = std::make_unique<ReuseportBackend>(around, request);
  if (auto opened = heritage != nullptr ? backend->open(*heritage) : backend->open(); !opened) return opened.error();
  return std::unique_ptr<EndpointBackend>(std::move(backend));
}

bool ebpf_selection_works(const Scoreboard& scoreboard) noexcept {
  return scoreboard.in_bpf() && ReuseportProgram::load(scoreboard.worker_pages_fd(), ReuseportProgram::Rung::kernel_backlog).ok();
}

}  // namespace lb
