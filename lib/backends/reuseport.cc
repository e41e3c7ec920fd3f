// SPDX-License-Identifier: MIT
// The reuseport backend: one SO_REUSEPORT socket for each slot, made and kept for life by the primary, so that a queue
// outlives its worker. A program in the kernel picks the slot for each connection. The workers' side is in
// worker/slot_acceptor. Down the ladder, each step said in the status: eBPF with the kernel's backlog, eBPF with what the
// workers publish, classic BPF, the kernel's own hash.
#include <fcntl.h>

#include <time.h>

#include <algorithm>
#include <optional>

#include "backends/backend.hh"
#include "backends/classic_program.hh"
#include "backends/group_guard.hh"
#include "backends/heritage.hh"
#include "backends/rescue.hh"
#include "backends/reuseport_program.hh"
#include "backends/selection.hh"
#include "sys/error.hh"
#include "sys/half_open.hh"
#include "sys/process.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

constexpr int kInsertTries = 200;
constexpr timespec kInsertPause{0, 1'000'000};
constexpr uint32_t kPullMax = UINT16_MAX;
constexpr int64_t kClockSlack_ms = 20;         // of the kernel's timers, and of picks that were under way
constexpr int64_t kHandshakes_ms = 1'000;      // a retired group's patience with handshakes under way, with a program that migrates
constexpr int64_t kHandshakesMax_ms = 64'000;  // and without: tcp_synack_retries is 5, after 1, 2, 4, 8, 16 s, and 32 s to give up
constexpr int kStuck = 2;                      // looks in a row that found a worker not coming for its queue
constexpr int kStuckAlone = 11;                // the same for a busy one whose queue is its own: about a second

class ReuseportBackend final : public EndpointBackend {
 public:
  ReuseportBackend(Surroundings& around, const ListenRequest& request)
      : around_(around), request_(request), rescue_(around, request.cell, slots_, [this](uint32_t slot) { look_at(slot); }) {}

  Result<void> open() noexcept;
  Result<void> open(Heritage& heritage) noexcept;

  Result<Grant> grant(Seat seat) noexcept override;
  Result<void> set_backlog(int backlog) noexcept override;
  Result<void> reserve() noexcept override;
  void ready(Seat seat) noexcept override;
  void weigh(Seat seat) noexcept override;
  void draining(Seat seat) noexcept override;
  void left(Seat seat) noexcept override;
  void refuse_new() noexcept override;
  void turn() noexcept override {
    rescue_.turn();
    if (retired_ns_ == 0 && !lent_) guard_.turn(program_.get(), address_);  // else the group is another's
  }
  int next_turn_ms() noexcept override { return rescue_.next_turn_ms(); }
  bool quiet(bool handshakes) noexcept override;
  Result<Heritage> bequeath() noexcept override;
  void resume() noexcept override;
  void lend() noexcept override;
  void retire(bool whole) noexcept override;
  bool emptied() noexcept override;
  bool lives_on(Seat seat) const noexcept override { return whole_ || seat.slot == 0; }
  void finish() noexcept override;
  bool may_select(Selector selector) const noexcept override {
    // A program is there or not, and workers were told whether they may steal.
    return (request_.policy.selector == Selector::hash) == (selector == Selector::hash) &&
           permits_stealing(request_.policy.selector) == permits_stealing(selector);
  }
  void select(Selector selector) noexcept override;
  Result<Endpoint> address() const noexcept override { return address_; }
  void describe(EndpointStatus& status) const override;

 private:
  Selector selector() const noexcept {
    return request_.policy.selector == Selector::standard ? Selector::least_loaded : request_.policy.selector;
  }
  /// Do idle workers take what waits at busy ones? Under a rule that means a certain worker they must not; without a program there is none.
  bool steals() const noexcept {
    return around_.stealing && selector() != Selector::hash && (!program_ || permits_stealing(selector()));
  }
  Selector effective() const noexcept { return program_ ? selector() : classic_ ? Selector::random : Selector::hash; }
  Result<void> open_slot(uint32_t slot) noexcept;
  Result<UniqueFd> bind_slot() noexcept {
    return bind_to(address_, {.v6only = request_.options.v6only, .reuse_port = true, .more = &request_.options});
  }
  Result<void> attach_program() noexcept;
  Result<void> insert(uint32_t slot) noexcept;
  void set_selector() noexcept;
  Result<void> descend(Error why) noexcept;
  void set_ready(uint32_t slot, bool ready) noexcept;
  void attach_classic() noexcept;
  void look_at(uint32_t index) noexcept;
  bool left_out(uint32_t slot) const noexcept { return program_ && program_->hung(slot); }
  bool adopted_backlog(const Seat& seat) const noexcept;
  uint32_t in_flight(uint32_t slot) const noexcept { return in_flight_of(around_.scoreboard.page(slot)); }

  Surroundings& around_;
  ListenRequest request_;
  Endpoint address_;
  std::vector<Slot> slots_;         // by slot
  std::vector<UniqueFd> reserved_;  // by slot: bound and not listening, until it is asked for
  Rescue rescue_;
  GroupGuard guard_{around_, request_.cell, slots_};
  uint32_t sockets_ = 0;
  std::unique_ptr<ReuseportProgram> program_;
  UniqueFd taken_;  // with a program: the workers' counts of what they took, by slot
  bool classic_ = false;
  uint64_t retired_ns_ = 0;  // another backend has taken over; 0: none has
  bool whole_ = false;       // with all the sockets
  bool lent_ = false;        // none of them is in our program's group
  std::string reason_;
};

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

/// With sockets that listen already: all of a group's, or one that was alone, which becomes slot 0. A group it has from the moment that
/// another joins it, so one does: a program can be attached to a group only. No slot is ready yet, so slot 0 gets all.
Result<void> ReuseportBackend::open(Heritage& heritage) noexcept {
  slots_.resize(around_.scoreboard.slots());
  address_ = heritage.socket.address();
  const bool alone = heritage.others.empty();
  slots_[0].socket = heritage.socket.release();
  slots_[0].place = sockets_++;
  if (auto allowed = allow_reuse_port(slots_[0].socket.get()); !allowed) return allowed;
  if (auto listening = listen_on(slots_[0].socket.get(), request_.options.backlog, address_); !listening) return listening;
  for (Heritage::Slot& other : heritage.others) {
    if (other.index >= slots_.size())
      return error_naming(ENOSPC, "slot " + std::to_string(other.index) + " of the old primary, but " +
                                      std::to_string(slots_.size()) + " slots here (Options::workers_max)");
    slots_[other.index].socket = std::move(other.socket);
    slots_[other.index].place = other.place;
    sockets_ = std::max(sockets_, other.place + 1);
  }
  if (alone)
    if (auto opened = open_slot(1); !opened) return opened;
  if (selector() == Selector::hash) detach_program(slots_[0].socket.get());
  return attach_program();
}

Result<Heritage> ReuseportBackend::bequeath() noexcept try {
  const auto duplicate = [](int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3)); };
  Heritage heritage{BoundSocket::adopt(duplicate(slots_[0].socket.get()), address_)};
  for (uint32_t i = 1; i < slots_.size(); ++i)
    if (slots_[i].socket) heritage.others.push_back({i, slots_[i].place, duplicate(slots_[i].socket.get())});
  if (heritage.socket.get() < 0 ||
      std::any_of(heritage.others.begin(), heritage.others.end(), [](auto& slot) { return !slot.socket; }))
    return Error{EMFILE, "duplicate the group's sockets"};
  return heritage;
} catch (...) {
  return Error{ENOMEM, "duplicate the group's sockets"};
}

/// The one that was to take over had attached a program of its own, or detached ours.
void ReuseportBackend::resume() noexcept {
  if (program_) (void)program_->attach(slots_[0].socket.get());
  if (std::exchange(lent_, false) && program_)
    for (uint32_t i = 0; i < slots_.size(); ++i)
      if (slots_[i].socket) (void)insert(i);
  if (program_) return;
  if (classic_)
    attach_classic();
  else
    detach_program(slots_[0].socket.get());
}

/// Our program finds nothing to pick now, and leaves it to the kernel's hash, until another is attached.
void ReuseportBackend::lend() noexcept {
  lent_ = true;
  for (uint32_t i = 0; program_ && i < slots_.size(); ++i)
    if (slots_[i].socket) program_->remove(i);
}

/// From now on slot 0, which lives on, gets all; the others' queues are emptied by the workers here.
void ReuseportBackend::retire(bool whole) noexcept {
  retired_ns_ = now_ns();
  whole_ = whole;
  if (whole) return;
  if (lent_) resume();
  if (program_)
    for (auto& word : program_->group().ready) atomic(word).store(0);
  else
    (void)attach_classic_program(slots_[0].socket.get(), {&slots_[0].place, 1});
}

/// Handshakes that began at another slot end there. With a program that migrates nothing would be lost of those that take long, and
/// kernels before 6.5 or so do not always wake who waits for them, so they get a little time; without one, all that they can take.
bool ReuseportBackend::emptied() noexcept {
  if (whole_) return true;
  const auto waited_ms = static_cast<int64_t>((now_ns() - retired_ns_) / 1'000'000);
  if (waited_ms < 2 * kClockSlack_ms) return false;
  const bool patient = waited_ms < (program_ ? kHandshakes_ms : kHandshakesMax_ms);
  if (patient) {
    const auto begun = count_half_open(static_cast<sa_family_t>(address_.family()), address_.port(), waited_ms - kClockSlack_ms);
    if (begun && *begun != 0) return false;
  }
  for (uint32_t i = 1; i < slots_.size(); ++i)
    if (slots_[i].socket && accept_queue_length(slots_[i].socket.get()) != 0) return false;
  return true;
}

/// Shut down, they leave the group, whoever else still holds them. Only then is slot 0 taken from the program: without it the kernel's
/// hash would send newcomers to the others, and a handshake that ends while its listener is shut down is reset. Slot 0 may be wanted in
/// the sockarray of another program.
void ReuseportBackend::finish() noexcept {
  if (!whole_)
    for (uint32_t i = 1; i < slots_.size(); ++i)
      if (slots_[i].socket) ::shutdown(slots_[i].socket.get(), SHUT_RD);
  if (!program_) return;
  for (uint32_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].socket && (i == 0 || whole_)) program_->remove(i);
  detach_program(slots_[0].socket.get());  // also one that our guard had put back before we retired
}

void ReuseportBackend::select(Selector selector) noexcept {
  request_.policy.selector = selector;
  if (program_) set_selector();
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
  classic_ = true;
  attach_classic();
  return {};
}

void ReuseportBackend::attach_classic() noexcept {
  if (lent_) return;
  std::vector<uint32_t> places;
  for (const Slot& slot : slots_)
    if (slot.ready) places.push_back(slot.place);
  if (auto attached = attach_classic_program(slots_[0].socket.get(), places); !attached) {
    classic_ = false;
    reason_ += "; " + attached.error().message();
  }
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
  rescue_.introduce(index);
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
  Grant grant{Arrival::slot_socket, {slot.socket.get()}, {program_ ? 1U : 0U, steals() ? 1U : 0U, 0}};
  if (program_) grant.fds.insert(grant.fds.end(), {program_->picks_fd(), taken_.get()});
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
  rescue_.introduce_siblings(slot);
  rescue_.disown(seat.slot);
  weigh(seat);
  set_ready(seat.slot, true);
  rescue_.adopt_orphans();
}

void ReuseportBackend::weigh(Seat seat) noexcept {
  if (program_) program_->group().weight[seat.slot] = static_cast<uint16_t>(std::min(around_.scoreboard.pull(seat.slot), kPullMax));
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
  slot.seat.reset();
  slot.leaving = slot.hung = slot.owed_siblings = false;
  slot.stuck = 0;
  rescue_.release(seat);
}

void ReuseportBackend::set_ready(uint32_t index, bool ready) noexcept {
  if (slots_[index].ready == ready) return;
  slots_[index].ready = ready;
  if (retired_ns_ != 0) return;
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
    rescue_.tell(*slot.seat, Act::nudge, 0);
  } else if (slot.hung && heartbeat != slot.heartbeat) {
    slot.hung = false;
    if (passed_over) program_->pardon(index);
    set_ready(index, true);
    rescue_.adopt_orphans();
  } else if (!slot.hung && passed_over) {
    slot.hung = true;  // or asleep: it gets nothing that would wake it
    rescue_.adopt_orphans();
    rescue_.tell(*slot.seat, Act::nudge, 0);
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
  if (!handshakes) return true;
  const auto half_open = count_half_open(static_cast<sa_family_t>(address_.family()), address_.port());
  return !half_open || *half_open == 0;
}

void ReuseportBackend::describe(EndpointStatus& status) const {
  status.reason = reason_;
  status.stealing = steals();
  status.strangers = guard_.strangers();
  status.reattached = guard_.reattached();
  status.effective = {Backend::reuseport, effective()};
  if (program_) {
    const bool top = program_->rung() == ReuseportProgram::Rung::kernel_backlog;
    status.rung = top ? "eBPF, kernel backlog" : "eBPF, in flight";
    status.outcomes = outcomes_of(*program_);
  } else {
    status.rung = classic_ ? "classic BPF" : "kernel hash";
  }
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

}  // namespace

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
