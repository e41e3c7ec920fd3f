// SPDX-License-Identifier: MIT
// reuseport: a worker waits on its own slot's socket. Before it sleeps it looks whether a busy sibling has connections queued, and
// takes one: no connection waits while a worker is idle. When it has some of its own, it takes one that has waited clearly longer
// at a busy sibling all the same: the queues together are served nearly as one, oldest first. The program's pick counts and times,
// in memory, say where to look, so looking costs no system call when there is nothing to take.
#include <sys/epoll.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "sys/error.hh"
#include "sys/socket.hh"
#include "worker/acceptor.hh"
#include "worker/hermes.hh"
#include "worker/slot_queues.hh"

namespace lb {
namespace {

constexpr Ticks kClearlyLonger = 1000;  // so much older must a connection elsewhere be to be preferred to one's own
constexpr Ticks kLookPause = 500;       // between looks for one while there are own ones
constexpr Ticks kOverdue = 200;         // an idle worker comes for its connections sooner
constexpr Ticks kGivenUp = 1'000'000;   // a handshake that takes longer is not counted on

class SlotAcceptor final : public Acceptor {
 public:
  SlotAcceptor(Workplace& place, uint32_t cell, UniqueFd socket, SlotQueues queues)
      : place_(place), cell_(cell), socket_(std::move(socket)), queues_(std::move(queues)) {}

  bool expects() const noexcept override { return !queues_.known() || queues_.pending(place_.slot) > 0; }

  Result<Arrived> take(bool nonblocking) noexcept override { return arrived(take_fd(nonblocking)); }
  Result<Arrived> take_elsewhere(bool nonblocking) noexcept override {
    const uint32_t picked = queues_.picks(place_.slot);
    if (expects()) return take(nonblocking);
    settled_picks().store(picked, std::memory_order_relaxed);  // siblings have taken some of them
    return arrived(take_others(nonblocking));
  }

  Result<void> join(int epoll_fd, uint64_t data) noexcept override {
    if (auto added = add(epoll_fd, data, socket_.get()); !added) return added;
    lines_.push_back({epoll_fd, data});
    for (const uint32_t slot : std::vector(adopted_))
      if (!add(epoll_fd, data, siblings_[slot].socket.get())) disown(slot);  // no memory: somebody else will be asked
    return {};
  }

  void rest() noexcept override { judges() ? hermes_.rests() : hermes_.leave(); }

  bool must_empty(bool) const noexcept override { return !left_; }

  void retire(bool all_leave) noexcept override {
    if (all_leave) return;
    steals_ = false;
    while (!adopted_.empty()) disown(adopted_.back());
  }

  /// Out of the lines, in which newcomers would wake us for ever.
  void leave_to_others() noexcept override {
    left_ = true;
    leave();
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

  /// What waits at one slot, as far as this worker can know.
  struct Waiting {
    uint32_t slot = LB_MAX_SLOTS;
    Ticks age = 0;  ///< of its oldest

    explicit operator bool() const noexcept { return slot != LB_MAX_SLOTS; }
  };

  Result<Arrived> arrived(Result<UniqueFd> taken) noexcept {
    if (!taken) return taken.error();
    if (*taken) judges() ? hermes_.took() : hermes_.leave();
    return Arrived{std::move(*taken), {}};
  }
  std::atomic<uint32_t>& settled_picks() noexcept { return atomic(place_.page().cells[cell_].settled); }
  Result<UniqueFd> take_fd(bool nonblocking) noexcept;
  Result<UniqueFd> take_others(bool nonblocking) noexcept;
  /// The primary's word, of which there is news when the selector changes.
  bool asked_to(uint32_t rule) const noexcept {
    return place_.board.sees_others() && (atomic(place_.board.primary().rules[cell_]).load(std::memory_order_relaxed) & rule) != 0;
  }
  bool judges() const noexcept { return asked_to(LB_RULE_JUDGE); }
  bool may_steal() const noexcept { return steals_ && asked_to(LB_RULE_STEAL) && !place_.board.leaving(place_.slot); }
  Waiting oldest_elsewhere(Ticks now) noexcept;
  Result<UniqueFd> take_older(bool nonblocking) noexcept;
  Result<UniqueFd> take_from(uint32_t slot, bool nonblocking) noexcept;
  void write_off_the_lost() noexcept;
  Result<UniqueFd> steal(bool nonblocking) noexcept;
  Result<UniqueFd> steal_blindly(bool nonblocking) noexcept;
  void disown(uint32_t slot) noexcept {
    if (std::erase(adopted_, slot) == 0) return;
    for (const Line& line : lines_) ::epoll_ctl(line.epoll_fd, EPOLL_CTL_DEL, siblings_[slot].socket.get(), nullptr);
  }
  bool busy(uint32_t slot) const noexcept { return in_flight_of(place_.board.page(slot)) != 0; }
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
  SlotQueues queues_;
  Hermes hermes_{place_, queues_};
  bool steals_ = true;                   // until it retires
  bool left_ = false;                    // its queue is others' to empty
  Ticks looked_at_ = 0;                  // elsewhere, while there were own ones
  std::optional<Ticks> seen_elsewhere_;  // and from when on the oldest there has waited
  std::vector<Sibling> siblings_;        // by slot
  std::vector<uint32_t> adopted_;        // slots without a worker whose queue is ours to empty
  std::vector<Line> lines_;
};

Result<UniqueFd> SlotAcceptor::take_fd(bool nonblocking) noexcept {
  if (auto older = take_older(nonblocking); older && *older) return older;
  const uint32_t picked = queues_.picks(place_.slot);
  auto taken = accept_from(socket_.get(), nonblocking);
  if (!taken) return taken;
  if (*taken) {
    settled_picks().store(settled_picks().load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    queues_.count_taken(place_.slot);
    return taken;
  }
  settled_picks().store(picked, std::memory_order_relaxed);  // whatever was picked before we looked is not there (any more)
  return take_others(nonblocking);
}

/// Our own queue is empty.
Result<UniqueFd> SlotAcceptor::take_others(bool nonblocking) noexcept {
  for (const uint32_t slot : adopted_) {
    auto taken = take_from(slot, nonblocking);
    if (taken && *taken) return taken;
  }
  write_off_the_lost();
  return steal(nonblocking);
}

/// Handshakes that nobody finished, and SYN cookies, which are picked twice, are never taken. With our queue empty and nothing picked for
/// long, they are all that is pending.
void SlotAcceptor::write_off_the_lost() noexcept {
  if (!queues_.known()) return;
  queues_.correct(place_.slot);
  if (queues_.pending(place_.slot) <= 0) return;
  if (queues_.age_of_oldest(place_.slot, 1, now_ticks()) < kGivenUp) return;
  queues_.write_off(place_.slot);
}

/// The slot of a sibling whose oldest connection has waited longest. An idle sibling is about to come for its own.
/// A hint: only the kernel knows which handshakes are over. What turned out not to be there is asked for again after the next pick.
SlotAcceptor::Waiting SlotAcceptor::oldest_elsewhere(Ticks now) noexcept {
  Waiting oldest;
  const auto mapped = static_cast<uint32_t>(std::min<size_t>(siblings_.size(), place_.board.slots()));
  for (uint32_t slot = 0; slot < mapped; ++slot) {
    const Sibling& sibling = siblings_[slot];
    if (!sibling.socket || sibling.looked == queues_.picks(slot)) continue;
    queues_.correct(slot);
    const int32_t waiting = queues_.pending(slot);
    if (waiting <= 0) continue;
    const Ticks age = queues_.age_of_oldest(slot, waiting, now);
    if (!busy(slot) && age < kOverdue) continue;
    if (!oldest || age > oldest.age) oldest = {slot, age};
  }
  return oldest;
}

Result<UniqueFd> SlotAcceptor::take_from(uint32_t slot, bool nonblocking) noexcept {
  const uint32_t seen = queues_.picks(slot);
  auto taken = accept_from(siblings_[slot].socket.get(), nonblocking);
  if (taken && *taken) queues_.count_taken(slot);
  if (taken && !*taken) siblings_[slot].looked = seen;
  return taken;
}

/// Before an own connection is taken: one elsewhere that has waited clearly longer.
Result<UniqueFd> SlotAcceptor::take_older(bool nonblocking) noexcept {
  if (!may_steal() || !queues_.known() || siblings_.empty()) return UniqueFd();
  const int32_t own = queues_.pending(place_.slot);
  if (own <= 0) return UniqueFd();  // the idle look is next anyway
  const Ticks now = now_ticks();
  const bool may_look = now - looked_at_ >= kLookPause;
  if (!may_look && !seen_elsewhere_) return UniqueFd();  // without the program's times, whose line it is about to write
  const Ticks enough = queues_.age_of_oldest(place_.slot, own, now) + kClearlyLonger;
  if (!may_look && now - *seen_elsewhere_ < enough) return UniqueFd();
  looked_at_ = now;
  seen_elsewhere_.reset();
  const Waiting oldest = oldest_elsewhere(now);
  if (!oldest) return UniqueFd();
  seen_elsewhere_ = now - oldest.age;
  return oldest.age < enough ? UniqueFd() : take_from(oldest.slot, nonblocking);
}

Result<UniqueFd> SlotAcceptor::steal(bool nonblocking) noexcept {
  if (!may_steal()) return UniqueFd();
  if (!queues_.known()) return steal_blindly(nonblocking);
  if (siblings_.empty()) return UniqueFd();
  const Ticks now = now_ticks();
  while (const Waiting oldest = oldest_elsewhere(now)) {
    auto taken = take_from(oldest.slot, nonblocking);
    if (!taken || *taken) return taken;
  }
  return UniqueFd();
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
      // Told again, since not all of it had room before: epoll instances know the descriptor that was there.
      for (size_t i = 0; i < packet.fd_count; ++i)
        if (!siblings_[slot + i].socket) siblings_[slot + i].socket = std::move(packet.fds[i]);
      break;
    case Act::adopt:
      if (packet.fd_count != 1) return;  // our descriptor table is full: somebody else will be asked
      if (siblings_.size() <= slot) siblings_.resize(slot + 1);
      if (!siblings_[slot].socket) siblings_[slot].socket = std::move(packet.fds[0]);
      if (std::find(adopted_.begin(), adopted_.end(), slot) != adopted_.end()) return;
      adopted_.push_back(slot);
      for (const Line& line : lines_)
        if (!add(line.epoll_fd, line.data, siblings_[slot].socket.get())) return disown(slot);  // as with a descriptor table
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
  const bool looks = answer.value[2] != 0;
  const size_t pages = program ? 3 : 1;  // the place of the descriptor, if there is one
  if (packet.fd_count != pages + (looks ? 1 : 0)) return Error{EPROTO, "listener: the slot's socket"};
  if (auto looked = looks ? place.board.look_at_others(packet.fds[pages].get()) : Result<void>(); !looked) return looked.error();
  SlotQueues queues;
  if (program) {
    auto picks = Mapping::map(packet.fds[1].get(), LB_MAX_SLOTS * sizeof(lb_slot_picks), 0, false);
    if (!picks) return picks.error();
    auto taken = Mapping::map(packet.fds[2].get(), LB_MAX_SLOTS * sizeof(lb_slot_taken), 0, true);
    if (!taken) return taken.error();
    queues = SlotQueues(std::move(*picks), std::move(*taken));
  }
  return std::unique_ptr<Acceptor>(
      std::make_unique<SlotAcceptor>(place, answer.endpoint, std::move(packet.fds[0]), std::move(queues)));
}

}  // namespace lb
