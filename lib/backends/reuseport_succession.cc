// SPDX-License-Identifier: MIT
// How a reuseport group passes on: to another backend when the policy changes, to the next primary in an upgrade, and from either. Slot 0's
// socket lives on; the others are emptied before they are shut down, unless the whole group is taken over.
#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "backends/classic_program.hh"
#include "backends/heritage.hh"
#include "backends/reuseport.hh"
#include "sys/error.hh"
#include "sys/process.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

constexpr int64_t kClockSlack_ms = 20;         // of the kernel's timers, and of picks that were under way
constexpr int64_t kHandshakes_ms = 1'000;      // a retired group's patience with handshakes under way, with a program that migrates
constexpr int64_t kHandshakesMax_ms = 64'000;  // and without: tcp_synack_retries is 5, after 1, 2, 4, 8, 16 s, and 32 s to give up

}  // namespace

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
  if (std::exchange(hold_, Hold::whole) == Hold::lent && program_)
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
  hold_ = Hold::lent;
  for (uint32_t i = 0; program_ && i < slots_.size(); ++i)
    if (slots_[i].socket) program_->remove(i);
}

/// From now on slot 0, which lives on, gets all; the others' queues are emptied by the workers here.
void ReuseportBackend::retire(bool whole) noexcept {
  retired_ns_ = now_ns();
  if (hold_ == Hold::lent && !whole) resume();
  hold_ = whole ? Hold::none : Hold::queues;
  if (whole) return;
  if (program_)
    for (auto& word : program_->group().ready) atomic(word).store(0);
  else
    (void)attach_classic_program(slots_[0].socket.get(), {&slots_[0].place, 1});
}

/// Handshakes that began at another slot end there. With a program that migrates nothing would be lost of those that take long, and
/// kernels before 6.5 or so do not always wake who waits for them, so they get a little time; without one, all that they can take.
bool ReuseportBackend::emptied() noexcept {
  if (hold_ == Hold::none) return true;
  const auto waited_ms = static_cast<int64_t>((now_ns() - retired_ns_) / 1'000'000);
  if (waited_ms < 2 * kClockSlack_ms) return false;
  const bool patient = waited_ms < (program_ ? kHandshakes_ms : kHandshakesMax_ms);
  const auto family = static_cast<sa_family_t>(address_.family());
  if (patient && retiring_.under_way(family, address_.port(), waited_ms - kClockSlack_ms)) return false;
  for (uint32_t i = 1; i < slots_.size(); ++i)
    if (slots_[i].socket && accept_queue_length(slots_[i].socket.get()) != 0) return false;
  return true;
}

/// Shut down, they leave the group, whoever else still holds them. Only then is slot 0 taken from the program: without it the kernel's
/// hash would send newcomers to the others, and a handshake that ends while its listener is shut down is reset. Slot 0 may be wanted in
/// the sockarray of another program.
void ReuseportBackend::finish() noexcept {
  if (hold_ != Hold::none)
    for (uint32_t i = 1; i < slots_.size(); ++i)
      if (slots_[i].socket) ::shutdown(slots_[i].socket.get(), SHUT_RD);
  if (!program_) return;
  for (uint32_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].socket && (i == 0 || hold_ == Hold::none)) program_->remove(i);
  detach_program(slots_[0].socket.get());  // also one that our guard had put back before we retired
}

}  // namespace lb
