// SPDX-License-Identifier: MIT
// reuseport: a worker waits on its own slot's socket. Before it sleeps it looks whether a busy sibling has connections queued, and
// takes one: no connection waits while a worker is idle. The program's pick counts, in memory, say where to look, so looking costs
// no system call when there is nothing to take.
#include <sys/epoll.h>

#include <algorithm>
#include <vector>

#include "sys/error.hh"
#include "sys/socket.hh"
#include "worker/acceptor.hh"

namespace lb {
namespace {

class SlotAcceptor final : public Acceptor {
 public:
  SlotAcceptor(Workplace& place, uint32_t cell, UniqueFd socket, Mapping picks, bool steals)
      : place_(place), cell_(cell), socket_(std::move(socket)), picks_(std::move(picks)), steals_(steals) {}

  Result<Arrived> take(bool nonblocking) noexcept override {
    auto taken = take_fd(nonblocking);
    if (!taken) return taken.error();
    return Arrived{std::move(*taken), {}};
  }

  Result<UniqueFd> take_fd(bool nonblocking) noexcept {
    auto& settled = atomic(place_.page().cells[cell_].settled);
    const uint32_t picked = picks(place_.slot);
    auto taken = accept_from(socket_.get(), nonblocking);
    if (!taken) return taken;
    if (*taken) {
      settled.store(settled.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      return taken;
    }
    settled.store(picked, std::memory_order_relaxed);  // whatever was picked before we looked is not there (any more)
    for (const uint32_t slot : adopted_) {
      taken = accept_from(siblings_[slot].socket.get(), nonblocking);
      if (taken && *taken) return taken;
    }
    return steal(nonblocking);
  }

  Result<void> join(int epoll_fd, uint64_t data) noexcept override {
    if (auto added = add(epoll_fd, data, socket_.get()); !added) return added;
    lines_.push_back({epoll_fd, data});
    for (const uint32_t slot : adopted_) (void)add(epoll_fd, data, siblings_[slot].socket.get());
    return {};
  }

  bool must_empty(bool) const noexcept override { return true; }

  void retire(bool all_leave) noexcept override {
    if (all_leave) return;
    steals_ = false;
    while (!adopted_.empty()) disown(adopted_.back());
  }

  void told(const Message& message, Packet& packet) noexcept override;

  void leave() noexcept override {
    for (const Line& line : lines_) {
      ::epoll_ctl(line.epoll_fd, EPOLL_CTL_DEL, socket_.get(), nullptr);
      for (const uint32_t slot : adopted_) ::epoll_ctl(line.epoll_fd, EPOLL_CTL_DEL, siblings_[slot].socket.get(), nullptr);
    }
    lines_.clear();
  }

 private:
  struct Line {
    int epoll_fd;
    uint64_t data;
  };
  struct Sibling {
    UniqueFd socket;
    uint32_t looked = 0;  // its pick count when last we found its queue empty
  };

  uint32_t picks(uint32_t slot) const noexcept {
    const auto* table = static_cast<const lb_slot_picks*>(picks_.get());
    return table == nullptr ? 0 : static_cast<uint32_t>(atomic(table[slot].picks).load(std::memory_order_relaxed));
  }
  /// Connections that the program sent to a slot and that its worker has not come to.
  uint32_t pending(uint32_t slot) const noexcept {
    return picks(slot) - atomic(place_.board.page(slot).cells[cell_].settled).load(std::memory_order_relaxed);
  }
  Result<UniqueFd> steal(bool nonblocking) noexcept;
  Result<UniqueFd> steal_blindly(bool nonblocking) noexcept;
  void disown(uint32_t slot) noexcept {
    if (std::erase(adopted_, slot) == 0) return;
    for (const Line& line : lines_) ::epoll_ctl(line.epoll_fd, EPOLL_CTL_DEL, siblings_[slot].socket.get(), nullptr);
  }
  bool busy(uint32_t slot) const noexcept {
    return in_flight_of(place_.board.page(slot)) != 0;
  }
  Result<void> add(int epoll_fd, uint64_t data, int fd) noexcept {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLEXCLUSIVE;
    event.data.u64 = data;
    if (::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) return last_error("epoll_ctl");
    return {};
  }

  Workplace& place_;
  uint32_t cell_;
  UniqueFd socket_;
  Mapping picks_;  // none: no program, so nothing says where to look
  bool steals_;
  std::vector<Sibling> siblings_;  // by slot
  std::vector<uint32_t> adopted_;  // slots without a worker whose queue is ours to empty
  std::vector<Line> lines_;
};

Result<UniqueFd> SlotAcceptor::steal(bool nonblocking) noexcept {
  if (!steals_) return UniqueFd();
  if (picks_.get() == nullptr) return steal_blindly(nonblocking);
  const auto mapped = static_cast<uint32_t>(std::min<size_t>(siblings_.size(), place_.board.slots()));
  for (;;) {
    uint32_t longest = 0;
    uint32_t victim = mapped;
    for (uint32_t slot = 0; slot < mapped; ++slot) {
      if (!siblings_[slot].socket || siblings_[slot].looked == picks(slot)) continue;
      const uint32_t waiting = pending(slot);
      // An idle sibling is about to come for it; only a busy one's queue waits.
      if (!busy(slot) || waiting <= longest || waiting > (1U << 31)) continue;
      longest = waiting;
      victim = slot;
    }
    if (victim == mapped) return UniqueFd();
    const uint32_t seen = picks(victim);
    auto taken = accept_from(siblings_[victim].socket.get(), nonblocking);
    if (!taken || *taken) return taken;
    siblings_[victim].looked = seen;
  }
}

/// Without a program nothing says which busy sibling has a queue, but to ask them in turn.
Result<UniqueFd> SlotAcceptor::steal_blindly(bool nonblocking) noexcept {
  const auto mapped = static_cast<uint32_t>(std::min<size_t>(siblings_.size(), place_.board.slots()));
  for (uint32_t i = 1; i < mapped; ++i) {
    const uint32_t slot = (place_.slot + i) % mapped;
    if (!siblings_[slot].socket || !busy(slot)) continue;
    auto taken = accept_from(siblings_[slot].socket.get(), nonblocking);
    if (taken && *taken) return taken;
  }
  return UniqueFd();
}

void SlotAcceptor::told(const Message& message, Packet& packet) noexcept {
  const uint32_t slot = message.value[0];
  if (slot >= LB_MAX_SLOTS) return;
  switch (message.act) {
    case Act::siblings:
      if (slot + packet.fd_count > LB_MAX_SLOTS) return;
      if (siblings_.size() < slot + packet.fd_count) siblings_.resize(slot + packet.fd_count);
      for (size_t i = 0; i < packet.fd_count; ++i) siblings_[slot + i].socket = std::move(packet.fds[i]);
      break;
    case Act::adopt:
      if (packet.fd_count != 1) return;  // our descriptor table is full: somebody else will be asked
      if (siblings_.size() <= slot) siblings_.resize(slot + 1);
      if (!siblings_[slot].socket) siblings_[slot].socket = std::move(packet.fds[0]);
      if (std::find(adopted_.begin(), adopted_.end(), slot) != adopted_.end()) return;
      adopted_.push_back(slot);
      for (const Line& line : lines_) (void)add(line.epoll_fd, line.data, siblings_[slot].socket.get());
      break;
    case Act::disown:
      disown(slot);
      break;
    default:
      break;
  }
}

}  // namespace

Result<std::unique_ptr<Acceptor>> make_slot_acceptor(Workplace& place, const Message& answer, Packet& packet) noexcept {
  const bool program = answer.value[1] != 0;
  if (packet.fd_count != (program ? 2U : 1U)) return Error{EPROTO, "listener: the slot's socket"};
  Mapping picks;
  if (program) {
    auto mapped = Mapping::map(packet.fds[1].get(), LB_MAX_SLOTS * sizeof(lb_slot_picks), 0, false);
    if (!mapped) return mapped.error();
    picks = std::move(*mapped);
  }
  return std::unique_ptr<Acceptor>(
      std::make_unique<SlotAcceptor>(place, answer.endpoint, std::move(packet.fds[0]), std::move(picks), answer.value[2] != 0));
}

}  // namespace lb
