// SPDX-License-Identifier: MIT
// Datagrams under `reuseport`: one SO_REUSEPORT socket for each slot, made and kept for life by the primary, so that a queue
// outlives its worker. A program in the kernel gives each new flow a slot and keeps it there (bpf/flow.bpf.h). The workers' side is
// in worker/datagram. Down the ladder: eBPF with flows and receive queues, eBPF with flows, the kernel's own hash. A classic
// program is no rung here: it could pick ready slots alone, but not the same one twice.
#include "backends/datagram.hh"
#include "backends/rescue.hh"
#include "backends/reuseport_program.hh"
#include "backends/selection.hh"
#include "sys/datagram.hh"
#include "sys/error.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

constexpr int kNudgeAt = 1;  // looks in a row that found a worker not coming for its queue
constexpr int kHungAt = 3;   // so two sweeps after the nudge

class DatagramSlots final : public EndpointBackend {
 public:
  DatagramSlots(Surroundings& around, const ListenRequest& request)
      : around_(around), request_(request), rescue_(
                                                around, request.cell, slots_, [this](uint32_t slot) { look_at(slot); },
                                                [](int fd) { return receive_queue(fd).bytes != 0; }) {}

  Result<void> open() noexcept;

  Result<Grant> grant(Seat seat) noexcept override;
  void ready(Seat seat) noexcept override;
  void weigh(Seat) noexcept override {
    if (program_) publish_weights(program_->group(), around_.scoreboard);
  }
  void draining(Seat seat) noexcept override;
  void left(Seat seat) noexcept override;
  void refuse_new() noexcept override;
  bool quiet(bool) noexcept override { return true; }  // what got in is in a queue
  void turn() noexcept override { rescue_.turn(); }
  int next_turn_ms() noexcept override { return rescue_.next_turn_ms(); }
  Result<Endpoint> address() const noexcept override { return address_; }
  void identify(EndpointStatus& status) const override;
  void measure(EndpointStatus& status) const override;

 private:
  Selector selector() const noexcept {
    return request_.policy.selector == Selector::standard ? Selector::least_loaded : request_.policy.selector;
  }
  Result<void> attach_program() noexcept;
  Result<void> descend(Error why) noexcept;
  Result<void> open_slot(uint32_t index) noexcept;
  Result<void> insert(uint32_t index) noexcept;
  void set_ready(uint32_t index, bool ready) noexcept;
  void look_at(uint32_t index) noexcept;

  Surroundings& around_;
  ListenRequest request_;
  Endpoint address_;
  std::vector<Slot> slots_;  // by slot
  Rescue rescue_;
  std::unique_ptr<ReuseportProgram> program_;
  std::string reason_;
};

/// Slot 0 holds the address: bound alone first, so that a port in use is an error even among SO_REUSEPORT's friends.
Result<void> DatagramSlots::open() noexcept {
  slots_.resize(around_.scoreboard.slots());
  auto socket = bind_datagram_socket(request_.endpoint, request_, false);
  if (!socket) return socket.error();
  auto bound = local_address(socket->get());
  if (!bound) return bound.error();
  address_ = *bound;
  if (auto allowed = allow_reuse_port(socket->get()); !allowed) return allowed;
  slots_[0].socket = std::move(*socket);
  return attach_program();
}

/// A program is attached to a group, and a socket that was bound alone has none until another joins it: one that leaves again. A
/// datagram that comes to it in between is lost, as it would have been before we bound.
Result<void> DatagramSlots::attach_program() noexcept {
  if (selector() == Selector::hash) return {};
  if (selector() == Selector::hermes) return descend({ENOTSUP, "hermes judges workers by their connections"});
  if (!around_.scoreboard.in_bpf()) {
    auto map = create_worker_pages_map();  // the primary tried and failed: ask again for the reason
    return descend(map ? Error{ENOMEM, "eBPF worker pages"} : map.error());
  }
  auto program = ReuseportProgram::load(around_.scoreboard.worker_pages_fd(), ReuseportProgram::Rung::kernel_backlog, LB_FLOWS_MAX);
  if (!program) return descend(program.error());
  if (around_.strict && (*program)->rung() != ReuseportProgram::Rung::kernel_backlog)
    return error_naming(EPERM, "LB_STRICT: reuseport without the kernel's receive queues (" + (*program)->reason() + ")");
  const auto joining = bind_to(address_, {.v6only = request_.options.v6only, .reuse_port = true});
  if (!joining) return joining.error();
  if (auto attached = (*program)->attach(slots_[0].socket.get()); !attached) return descend(attached.error());
  program_ = std::move(*program);
  reason_ = program_->reason();
  lb_group& group = program_->group();
  group.endpoint = request_.cell;
  group.selector = program_selector(selector());
  return insert(0);
}

/// To the rung that needs no privilege.
Result<void> DatagramSlots::descend(Error why) noexcept {
  if (around_.strict) return error_naming(why.code, "LB_STRICT: reuseport without eBPF (" + std::string(why.op) + ")");
  reason_ = why.message();
  return {};
}

Result<void> DatagramSlots::open_slot(uint32_t index) noexcept {
  Slot& slot = slots_[index];
  if (slot.socket) return {};
  auto socket = bind_datagram_socket(address_, request_, true);
  if (!socket) return socket.error();
  slot.socket = std::move(*socket);
  auto inserted = program_ ? insert(index) : Result<void>();
  if (!inserted) slot.socket.reset();
  return inserted;
}

Result<void> DatagramSlots::insert(uint32_t index) noexcept {
  if (auto inserted = program_->insert(index, slots_[index].socket.get()); !inserted) return inserted;
  lb_group& group = program_->group();
  if (group.slot_count <= index) atomic(group.slot_count).store(index + 1);
  return {};
}

Result<Grant> DatagramSlots::grant(Seat seat) noexcept {
  if (seat.slot >= slots_.size()) return Error{ENOSPC, "reuseport: no slot left"};
  if (auto opened = open_slot(seat.slot); !opened) return opened.error();
  slots_[seat.slot].seat = seat;
  return Grant{Arrival::datagram_socket, {slots_[seat.slot].socket.get()}, {1, 0, 0}};
}

void DatagramSlots::ready(Seat seat) noexcept {
  if (slots_[seat.slot].seat != seat) return;
  if (program_) program_->group().cpu[seat.slot] = static_cast<uint16_t>(atomic(around_.scoreboard.page(seat.slot).cpu).load());
  rescue_.disown(seat.slot);
  weigh(seat);
  set_ready(seat.slot, true);
  rescue_.adopt_orphans();
}

/// Out of the pick, so its flows move; what is queued is its own and the adopter's to answer.
void DatagramSlots::draining(Seat seat) noexcept {
  if (slots_[seat.slot].seat != seat) return;
  set_ready(seat.slot, false);
  slots_[seat.slot].leaving = true;
  rescue_.release(seat);
}

void DatagramSlots::left(Seat seat) noexcept {
  Slot& slot = slots_[seat.slot];
  if (slot.seat != seat) return;
  set_ready(seat.slot, false);
  slot.vacate();
  rescue_.release(seat);
}

void DatagramSlots::refuse_new() noexcept {
  for (const Slot& slot : slots_)
    if (slot.socket) (void)drop_new_datagrams(slot.socket.get());
}

void DatagramSlots::set_ready(uint32_t index, bool ready) noexcept {
  if (slots_[index].ready == ready) return;
  slots_[index].ready = ready;
  if (!program_) return;
  auto& word = atomic(program_->group().ready[index / 64]);
  const uint64_t bit = uint64_t{1} << (index % 64);
  ready ? word.fetch_or(bit) : word.fetch_and(~bit);
}

/// A worker that receives past us is seen by its heartbeat, which the nudge makes it show. One at a long piece of work is not hung:
/// it has that charged, and its flows are better off with it.
void DatagramSlots::look_at(uint32_t index) noexcept {
  Slot& slot = slots_[index];
  const auto& page = around_.scoreboard.page(index);
  const uint64_t accepted = atomic(page.cells[request_.cell].accepted).load();
  const uint64_t heartbeat = atomic(page.heartbeat).load();
  const bool moved = accepted != slot.accepted || heartbeat != slot.heartbeat;
  slot.accepted = accepted;
  slot.heartbeat = heartbeat;
  if (slot.hung && moved) {
    slot.hung = false;
    ready(*slot.seat);
  }
  if (slot.hung) return;
  slot.stuck = !moved && slot.ready && receive_queue(slot.socket.get()).bytes != 0 ? slot.stuck + 1 : 0;
  if (slot.stuck == kNudgeAt) rescue_.nudge(index);
  if (slot.stuck < kHungAt || in_flight_of(page) != 0) return;
  slot.stuck = 0;
  slot.hung = true;
  set_ready(index, false);
  rescue_.release(*slot.seat);
}

void DatagramSlots::identify(EndpointStatus& status) const {
  status.reason = reason_;
  status.effective = {Backend::reuseport, program_ ? selector() : Selector::hash};
  status.rung = !program_                                                    ? "kernel hash"
                : program_->rung() == ReuseportProgram::Rung::kernel_backlog ? "eBPF, flows and receive queues"
                                                                             : "eBPF, flows";
}

void DatagramSlots::measure(EndpointStatus& status) const {
  if (program_) status.outcomes = outcomes_of(*program_);
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (!slot.socket) continue;
    const ReceiveQueue queue = receive_queue(slot.socket.get());
    status.queued += queue.bytes;
    status.lost += queue.dropped;
    if (!slot.seat) continue;
    const auto& cell = around_.scoreboard.page(i).cells[request_.cell];
    const uint64_t picks = program_ ? atomic(program_->picks()[i].picks).load() : 0;
    status.workers.push_back({slot.seat->worker, i, atomic(cell.accepted).load(), queue.bytes, picks, slot.hung});
  }
}

}  // namespace

Result<std::unique_ptr<EndpointBackend>> make_datagram_slots(Surroundings& around, const ListenRequest& request) noexcept {
  auto backend = std::make_unique<DatagramSlots>(around, request);
  if (auto opened = backend->open(); !opened) return opened.error();
  return std::unique_ptr<EndpointBackend>(std::move(backend));
}

}  // namespace lb
