// SPDX-License-Identifier: MIT
#include "http_worker.hh"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <lb/lb.hh>
#include <thread>
#include <unordered_map>

#include "http_session.hh"

namespace example {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kListenerTag = UINT64_MAX;
constexpr std::uint64_t kWorkerTag = UINT64_MAX - 1;
constexpr int kEventsMax = 64;
constexpr int kAcceptsMax = 16;  // per turn: new clients must not keep the present ones waiting
constexpr auto kSweepPeriod = 200ms;
constexpr auto kDrainPeriod = 20ms;
constexpr auto kBackOff = 10ms;  // after EMFILE and its like

void complain(const lb::Error& error) { std::fprintf(stderr, "http_server: %s\n", error.message().c_str()); }

bool passes(int accept_error) noexcept {
  return accept_error == EMFILE || accept_error == ENFILE || accept_error == ENOBUFS || accept_error == ENOMEM;
}

/// The event loop of one worker.
class HttpWorker {
 public:
  HttpWorker(lb::Worker& worker, lb::Listener listener)
      : worker_(worker), epoll_(::epoll_create1(EPOLL_CLOEXEC)), listener_(std::move(listener)) {}

  int run() {
    if (!epoll_) return complain({errno, "epoll_create1"}), 1;
    if (auto watched = listener_.watch(epoll_.get(), kListenerTag); !watched) return complain(watched.error()), 1;
    epoll_event event{.events = EPOLLIN, .data = {.u64 = kWorkerTag}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, worker_.fd(), &event) != 0) return complain({errno, "epoll_ctl"}), 1;
    do {
      wait_and_serve();
      sweep();
    } while (!leaving() || accepting_ || !clients_.empty());
    return exit_code_;
  }

 private:
  struct Client {
    HttpSession session;
    HttpSession::Wants watched = HttpSession::Wants::close;  // what epoll waits for; close: not in it yet
  };

  bool leaving() const { return worker_.draining() || exit_code_ != 0; }

  int timeout_ms() const {
    if (accept_again_) return 0;
    if (leaving()) return static_cast<int>(std::chrono::milliseconds(kDrainPeriod).count());
    return clients_.empty() ? -1 : static_cast<int>(std::chrono::milliseconds(kSweepPeriod).count());
  }

  void wait_and_serve() {
    std::array<epoll_event, kEventsMax> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsMax, timeout_ms());
    bool accept = accept_again_ || leaving();
    for (int i = 0; i < count; ++i) {
      const auto tag = events[static_cast<std::size_t>(i)].data.u64;
      if (tag == kListenerTag) {
        accept = true;
      } else if (tag == kWorkerTag) {
        if (auto dispatched = worker_.dispatch(); !dispatched) give_up(dispatched.error());
      } else if (auto client = clients_.find(static_cast<int>(tag)); client != clients_.end()) {
        proceed(client);
      }
    }
    if (accept && accepting_) accept_waiting();
  }

  // Each client is served before the next one is taken: while this worker is busy, another one can take it.
  void accept_waiting() {
    for (int i = 0; i < kAcceptsMax; ++i) {
      auto accepted = listener_.try_accept();
      if (!accepted && passes(accepted.error().code)) return std::this_thread::sleep_for(kBackOff);
      if (!accepted) return give_up(accepted.error());
      accept_again_ = accepted->has_value();
      if (!accept_again_) break;
      const int fd = (*accepted)->fd();
      proceed(clients_.insert_or_assign(fd, Client{HttpSession(*std::move(*accepted), worker_)}).first);
    }
    if (!accept_again_ && leaving() && (listener_.drained() || exit_code_ != 0)) stop_accepting();
  }

  void stop_accepting() {
    accepting_ = accept_again_ = false;
    listener_.close();
  }

  // Accepting no longer works: finish with the clients that are here.
  void give_up(const lb::Error& error) {
    complain(error);
    exit_code_ = 1;
    stop_accepting();
  }

  using Clients = std::unordered_map<int, Client>;

  Clients::iterator proceed(Clients::iterator at) { return watch(at, at->second.session.proceed(leaving())); }

  Clients::iterator watch(Clients::iterator at, HttpSession::Wants wants) {
    auto& [session, watched] = at->second;
    if (wants == HttpSession::Wants::close) return drop(at);
    if (wants == watched) return std::next(at);
    epoll_event event{.events = wants == HttpSession::Wants::read ? EPOLLIN : EPOLLOUT, .data = {.u64 = 0}};
    event.data.u64 = static_cast<std::uint64_t>(session.fd());
    const int act = watched == HttpSession::Wants::close ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (::epoll_ctl(epoll_.get(), act, session.fd(), &event) != 0) return drop(at);
    watched = wants;
    return std::next(at);
  }

  Clients::iterator drop(Clients::iterator at) {
    // Closing is not enough to leave epoll while another process holds the same socket, as the primary may for a
    // moment.
    const auto& client = at->second;
    if (client.watched != HttpSession::Wants::close) {
      (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, client.session.fd(), nullptr);
    }
    return clients_.erase(at);
  }

  void sweep() {
    const auto now = Clock::now();
    if (now - swept_ < (leaving() ? kDrainPeriod : kSweepPeriod)) return;
    swept_ = now;
    for (auto at = clients_.begin(); at != clients_.end();) at = sweep(at, now);
  }

  // Drops a client that is overdue and, when leaving, one that is idle: after a last look for a request on its way.
  Clients::iterator sweep(Clients::iterator at, Clock::time_point now) {
    auto& session = at->second.session;
    const bool last_look = leaving() && session.idle();
    if (!last_look) return session.overdue(now, leaving()) ? drop(at) : std::next(at);
    const auto wants = session.proceed(true);
    return watch(at, session.idle() ? HttpSession::Wants::close : wants);
  }

  lb::Worker& worker_;
  lb::UniqueFd epoll_;
  lb::Listener listener_;
  Clients clients_;
  bool accepting_ = true;
  bool accept_again_ = false;  // there may be more than the last turn took
  int exit_code_ = 0;
  Clock::time_point swept_ = Clock::now();
};

}  // namespace

int serve_http(lb::Worker& worker, lb::Listener listener) { return HttpWorker(worker, std::move(listener)).run(); }

}  // namespace example
