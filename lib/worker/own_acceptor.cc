// SPDX-License-Identifier: MIT
// exclusive: the worker's own socket, which nobody else serves. When the worker drains, newcomers are refused, and handshakes under
// way get a second to complete; a timer makes the listener readable meanwhile, so that a caller who waits looks again.
#include "worker/own_acceptor.hh"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <vector>

#include "sys/error.hh"
#include "sys/half_open.hh"
#include "sys/process.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

constexpr uint64_t kLastHandshakesMax_ns = 1'000'000'000;
constexpr long kAgain_ns = 5'000'000;
constexpr int kClearLooks = 2;  // a handshake that completes between accept(2) and the look is found by the next accept

class OwnAcceptor final : public Acceptor {
 public:
  explicit OwnAcceptor(OwnSocket socket) : socket_(std::move(socket)) {}

  Result<Arrived> take(bool nonblocking) noexcept override {
    auto taken = accept_from(socket_.fd.get(), nonblocking);
    if (!taken) return taken.error();
    if (!*taken && retired_ns_ != 0) look_around();
    return Arrived{std::move(*taken), {}};
  }

  Result<void> join(int epoll_fd, uint64_t data) noexcept override {
    for (const int fd : {socket_.fd.get(), timer_.get()})
      if (auto added = fd < 0 ? Result<void>() : add(epoll_fd, data, fd); !added) return added;
    lines_.push_back({epoll_fd, data});
    return {};
  }

  bool must_empty(bool) const noexcept override { return true; }

  bool settled() noexcept override { return retired_ns_ == 0 || clear_looks_ >= kClearLooks; }

  void retire(bool) noexcept override {
    if (retired_ns_ != 0) return;
    retired_ns_ = now_ns();
    if (socket_.address.family() == AF_UNIX) {
      ::shutdown(socket_.fd.get(), SHUT_RD);  // newcomers are refused from now on; those in the queue can be accepted
      return;
    }
    (void)drop_new_clients(socket_.fd.get());
    timer_ = UniqueFd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    const itimerspec again{{0, kAgain_ns}, {0, kAgain_ns}};
    if (timer_ && ::timerfd_settime(timer_.get(), 0, &again, nullptr) != 0) timer_.reset();
    for (const Line& line : lines_)
      if (timer_) (void)add(line.epoll_fd, line.data, timer_.get());
  }

  void leave() noexcept override {
    for (const Line& line : lines_) {
      ::epoll_ctl(line.epoll_fd, EPOLL_CTL_DEL, socket_.fd.get(), nullptr);
      if (timer_) ::epoll_ctl(line.epoll_fd, EPOLL_CTL_DEL, timer_.get(), nullptr);
    }
    lines_.clear();
  }

 private:
  struct Line {
    int epoll_fd;
    uint64_t data;
  };
  Result<void> add(int epoll_fd, uint64_t data, int fd) noexcept {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = data;
    if (::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) return last_error("epoll_ctl");
    return {};
  }

  /// Retired, and the queue was empty: may more come? The timer calls for the next look.
  void look_around() noexcept {
    uint64_t expirations = 0;
    if (timer_) (void)!::read(timer_.get(), &expirations, sizeof expirations);
    clear_looks_ = handshaking() ? 0 : timer_ ? clear_looks_ + 1 : kClearLooks;
    if (settled()) leave();  // a UNIX socket that refuses newcomers is readable for ever, and so would be the timer
  }
  bool handshaking() noexcept {
    if (socket_.address.family() == AF_UNIX || now_ns() - retired_ns_ > kLastHandshakesMax_ns) return false;
    return handshakes_.under_way(static_cast<sa_family_t>(socket_.address.family()), socket_.address.port());
  }

  OwnSocket socket_;
  UniqueFd timer_;
  Handshakes handshakes_;
  std::vector<Line> lines_;
  uint64_t retired_ns_ = 0;  // 0: it serves
  int clear_looks_ = 0;      // in a row, since then
};

}  // namespace

Result<OwnSocket> OwnSocket::open(const Endpoint& endpoint, const ListenOptions& options) noexcept {
  if (endpoint.kind() == Endpoint::Kind::unix_socket) {
    auto made = listen_at(endpoint, options);
    if (!made) return made.error();
    return OwnSocket{std::move(made->fd), std::move(made->path), endpoint};
  }
  auto fd = bind_to(endpoint, {.v6only = options.v6only, .more = &options});
  if (!fd) return fd.error();
  auto address = local_address(fd->get());
  if (!address) return address.error();
  return OwnSocket{std::move(*fd), {}, *address};
}

Result<std::unique_ptr<Acceptor>> make_own_acceptor(OwnSocket socket, int backlog) noexcept {
  if (auto listening = listen_on(socket.fd.get(), backlog, socket.address); !listening) return listening.error();
  return std::unique_ptr<Acceptor>(std::make_unique<OwnAcceptor>(std::move(socket)));
}

}  // namespace lb
