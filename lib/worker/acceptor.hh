// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include <lb/connection.hh>
#include <lb/result.hh>
#include <lb/unique_fd.hh>

#include "wire/channel.hh"
#include "wire/message.hh"
#include "wire/scoreboard.hh"

namespace lb {

/// What a worker's acceptors share.
struct Workplace {
  Scoreboard board;
  UniqueFd doorbell;  ///< wakes the primary
  uint32_t slot = 0;
  std::array<std::atomic<int>, Copies::kEpollsMax> epolls{};  ///< the user's, that listeners are in: connections may be too

  lb_worker_page& page() noexcept { return board.page(slot); }
  /// Of more than there is room for, connections have to be deleted by hand.
  void watched_by(int epoll_fd) noexcept {
    for (auto& known : epolls) {
      int expected = 0;
      if (known.load() == epoll_fd || known.compare_exchange_strong(expected, epoll_fd)) return;
    }
  }
  /// Says that this worker runs.
  void beat() noexcept {
    auto& heartbeat = atomic(page().heartbeat);
    heartbeat.store(heartbeat.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
};

/// A connection as it arrives; without an fd there is none.
struct Arrived {
  UniqueFd fd;
  Copies copies;

  explicit operator bool() const noexcept { return static_cast<bool>(fd); }
};

/// How one backend's connections arrive at a worker. One thread at a time.
class Acceptor {
 public:
  virtual ~Acceptor() = default;

  /// False when `take` is about to find nothing, as far as is known without asking the kernel.
  virtual bool expects() const noexcept { return true; }
  /// The next connection, if there is one. Errors: back off, or fatal (accept_verdict tells).
  virtual Result<Arrived> take(bool nonblocking) noexcept = 0;
  /// The same when nothing is expected right after one was taken: without asking the kernel, which would wake who waits if there were
  /// another one after all.
  virtual Result<Arrived> take_elsewhere(bool nonblocking) noexcept { return take(nonblocking); }
  /// Puts the descriptors to wait on into an epoll instance, level-triggered, with `data` in the events.
  virtual Result<void> join(int epoll_fd, uint64_t data) noexcept = 0;
  /// The worker has found nothing and is about to wait.
  virtual void rest() noexcept {}
  /// The queue is this worker's to empty before it leaves; `all_leave`: so do all others.
  virtual bool must_empty(bool all_leave) const noexcept = 0;
  /// The worker drains and the queue is empty: nothing more can come. Else look again; the listener becomes readable for it.
  virtual bool settled() noexcept { return true; }
  /// The worker drains; `all_leave`: so do all. What others could serve as well is no longer its business.
  virtual void retire(bool /*all_leave*/) noexcept {}
  /// After retire: another cluster empties the queues that this one's workers share.
  virtual void leave_to_others() noexcept {}
  /// siblings, adopt, disown, nudge.
  virtual void told(const Message&, Packet&) noexcept {}
  /// Gives back what it holds and has not yielded.
  virtual void leave() noexcept {}
};

/// Each takes its descriptors out of the primary's answer; EPROTO when they are not what the kind needs.
Result<std::unique_ptr<Acceptor>> make_shared_acceptor(Workplace& place, const Message& answer, Packet& packet,
                                                       int backlog) noexcept;
Result<std::unique_ptr<Acceptor>> make_slot_acceptor(Workplace& place, const Message& answer, Packet& packet) noexcept;
Result<std::unique_ptr<Acceptor>> make_handoff_acceptor(Workplace& place, const Message& answer, Packet& packet) noexcept;

}  // namespace lb
