// SPDX-License-Identifier: MIT
// shared: all workers wait on one socket. EPOLLEXCLUSIVE wakes one waiter, but always the one that registered first, so a
// worker goes to the end of the line, by leaving the epoll instance and joining again, before it sleeps. Who is woken and can take
// nothing steps out of the line and tells the primary, which wakes another, and lets this one try again later.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <vector>

#include "sys/doorbell.hh"
#include "sys/error.hh"
#include "sys/socket.hh"
#include "worker/acceptor.hh"

namespace lb {
namespace {

class SharedAcceptor final : public Acceptor {
 public:
  /// `local`: a UNIX socket; `kept`: others have it too, and go on with it after us.
  SharedAcceptor(Workplace& place, uint32_t cell, UniqueFd socket, bool local, bool kept)
      : place_(place), cell_(cell), socket_(std::move(socket)), local_(local), kept_(kept) {}

  Result<Arrived> take(bool nonblocking) noexcept override {
    auto taken = accept_from(socket_.get(), nonblocking);
    if (!taken) {
      step_out();
      return taken.error();
    }
    served_ |= static_cast<bool>(*taken);
    if (all_leave_) took_while_leaving(static_cast<bool>(*taken));
    return Arrived{std::move(*taken), {}};
  }

  Result<void> join(int epoll_fd, uint64_t data) noexcept override {
    if (auto added = add(epoll_fd, data); !added) return added;
    lines_.push_back({epoll_fd, data});
    return {};
  }

  /// Only who has served since goes to the end: waking for nothing costs no turn.
  void rest() noexcept override {
    if (served_ || out_) to_the_end();
  }

  /// Connections wait: whoever waits on us finds us readable.
  void told(const Message& message, Packet&) noexcept override {
    if (message.act == Act::nudge) to_the_end();
  }

  bool must_empty(bool all_leave) const noexcept override { return all_leave && still_ours_ != 0; }
  /// Out of the line of those who wait, whose wake-ups it would swallow.
  void retire(bool all_leave) noexcept override {
    all_leave_ = all_leave;
    if (all_leave && kept_) still_ours_ = accept_queue_length(socket_.get());
    if (!all_leave) leave();
  }

  void leave() noexcept override {
    if (std::exchange(out_, false)) cannot_take().store(0);
    for (const Line& line : lines_) ::epoll_ctl(line.epoll_fd, EPOLL_CTL_DEL, socket_.get(), nullptr);
    lines_.clear();
  }

 private:
  struct Line {
    int epoll_fd;
    uint64_t data;
  };
  Result<void> add(int epoll_fd, uint64_t data) noexcept {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLEXCLUSIVE;
    event.data.u64 = data;
    if (::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, socket_.get(), &event) != 0) return last_error("epoll_ctl");
    return {};
  }

  void to_the_end() noexcept {
    served_ = false;
    if (std::exchange(out_, false)) cannot_take().store(0);
    for (const Line& line : lines_) {
      ::epoll_ctl(line.epoll_fd, EPOLL_CTL_DEL, socket_.get(), nullptr);
      (void)add(line.epoll_fd, line.data);
    }
  }

  /// Out of descriptors or memory. In the line it would swallow wake-ups, and be woken for what it cannot take without end.
  void step_out() noexcept {
    out_ = true;
    for (const Line& line : lines_) ::epoll_ctl(line.epoll_fd, EPOLL_CTL_DEL, socket_.get(), nullptr);
    cannot_take().store(++outs_ == 0 ? ++outs_ : outs_);
    if (atomic(place_.board.primary().awake).load() == 0) Doorbell::ring(place_.doorbell.get());
  }
  std::atomic<uint32_t>& cannot_take() noexcept { return atomic(place_.page().cells[cell_].waiting); }

  /// A UNIX socket that refuses newcomers is readable for ever, and in one that others go on with newcomers queue.
  void took_while_leaving(bool one) noexcept {
    if (kept_) still_ours_ -= one && still_ours_ != 0 ? 1 : 0;
    if ((local_ && !one) || (kept_ && (!one || still_ours_ == 0))) leave();
  }

  Workplace& place_;
  uint32_t cell_;
  UniqueFd socket_;
  std::vector<Line> lines_;
  bool local_;
  bool kept_;
  bool served_ = false;
  bool out_ = false;   // of the line
  uint32_t outs_ = 0;  // how often it was
  bool all_leave_ = false;
  uint32_t still_ours_ = UINT32_MAX;  // kept and leaving: of those in the queue
};

}  // namespace

Result<std::unique_ptr<Acceptor>> make_shared_acceptor(Workplace& place, const Message& answer, Packet& packet,
                                                       int backlog) noexcept {
  if (packet.fd_count != 1) return Error{EPROTO, "listener: one socket"};
  auto address = Endpoint::parse(answer.get_text());
  if (!address) return address.error();
  const bool listens = (answer.value[1] & kSharedListens) != 0;
  if (!listens)
    if (auto listening = listen_on(packet.fds[0].get(), backlog, *address); !listening) return listening.error();
  return std::unique_ptr<Acceptor>(std::make_unique<SharedAcceptor>(
      place, answer.endpoint, std::move(packet.fds[0]), address->family() == AF_UNIX, (answer.value[1] & kSharedKept) != 0));
}

}  // namespace lb
