// SPDX-License-Identifier: MIT
#include "serve.hh"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <unordered_map>

#include "clock.hh"
#include "protocol.hh"

namespace lbbench {
namespace {

constexpr int kEventsMax = 64;
constexpr uint64_t kListener = 0;  // in epoll's data; connections have their fd, and a listener's is never 0 or 1 here
constexpr uint64_t kPrimary = 1;

void set_no_delay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/// True when the client expects more.
bool answer(int fd, const Request& request, uint32_t worker, int64_t service_error_ns) {
  const Answer reply{.service_error_ns = service_error_ns, .worker = worker, .reserved = 0};
  return send(fd, &reply, sizeof reply, MSG_NOSIGNAL) == sizeof reply && request.last == 0;
}

/// A connection in the event loop, with the part of a request that has arrived.
struct Session {
  lb::Connection connection;
  Request request{};
  size_t have = 0;

  enum class Read { complete, partial, ended };

  Read read_request() {
    while (have < sizeof request) {
      const ssize_t n = recv(connection.fd(), reinterpret_cast<char*>(&request) + have, sizeof request - have, 0);
      if (n > 0) {
        have += static_cast<size_t>(n);
      } else if (n < 0 && errno == EINTR) {
        continue;
      } else {
        return n < 0 && errno == EAGAIN ? Read::partial : Read::ended;
      }
    }
    have = 0;
    return Read::complete;
  }
};

class EventLoop {
 public:
  EventLoop(lb::Worker& worker, lb::Listener& listener, const Workload& workload)
      : worker_(worker), listener_(listener), workload_(workload), epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

  bool start() {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = kPrimary}};
    return epoll_ && epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, worker_.fd(), &event) == 0 &&
           listener_.watch(epoll_.get(), kListener).ok();
  }

  void run() {
    std::array<epoll_event, kEventsMax> events;
    while (!failed_ && !(listener_.drained() && sessions_.empty())) {
      const int n = epoll_wait(epoll_.get(), events.data(), kEventsMax, more_ ? 0 : -1);
      if (n < 0 && errno != EINTR) return;
      bool served = false;
      for (int i = 0; i < n; ++i) {
        const uint64_t what = events[static_cast<size_t>(i)].data.u64;
        if (what == kListener) more_ = true;
        if (what == kPrimary) {
          if (!worker_.dispatch()) return;
          more_ |= worker_.draining();  // to learn from try_accept that nothing is left
        }
        if (what > kPrimary) served |= turn(static_cast<int>(what));
      }
      if (more_ && !served) more_ = take_one();
    }
  }

 private:
  /// False when there was none.
  bool take_one() {
    auto taken = listener_.try_accept();
    if (!taken) {
      const int code = taken.error().code;
      failed_ = code != EMFILE && code != ENFILE && code != ENOBUFS && code != ENOMEM;  // those pass
      return false;
    }
    if (!*taken) return false;
    const int fd = (*taken)->fd();
    set_no_delay(fd);
    epoll_event event{.events = EPOLLIN, .data = {.u64 = static_cast<uint64_t>(fd)}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return true;
    sessions_.emplace(fd, Session{std::move(**taken)});
    turn(fd);  // its request has often come with it
    return true;
  }

  /// Serves the request that has arrived, if it is whole. True when it was.
  bool turn(int fd) {
    const auto found = sessions_.find(fd);
    if (found == sessions_.end()) return false;
    Session& session = found->second;
    const uint64_t begin_ns = now_ns();
    const auto read = session.read_request();
    if (read == Session::Read::partial) return false;
    if (read == Session::Read::complete) {
      const int64_t error_ns = workload_.spend(begin_ns, session.request.service_ns);
      if (answer(fd, session.request, worker_.id(), error_ns)) return true;
    }
    sessions_.erase(found);
    return read == Session::Read::complete;
  }

  lb::Worker& worker_;
  lb::Listener& listener_;
  const Workload& workload_;
  lb::UniqueFd epoll_;
  std::unordered_map<int, Session> sessions_;
  bool more_ = true;     ///< try_accept has not yet said that there is none: epoll may not tell of it again
  bool failed_ = false;  ///< the listener yields nothing any more
};

}  // namespace

void serve_serially(lb::Worker& worker, lb::Listener& listener, const Workload& workload) {
  while (auto connection = listener.accept()) {
    const int fd = connection->fd();
    uint64_t begin_ns = now_ns();
    set_no_delay(fd);
    Request request{};
    while (recv(fd, &request, sizeof request, MSG_WAITALL) == sizeof request) {
      const int64_t error_ns = workload.spend(begin_ns, request.service_ns);
      if (!answer(fd, request, worker.id(), error_ns)) break;
      begin_ns = now_ns();
    }
  }
}

void serve_by_event_loop(lb::Worker& worker, lb::Listener& listener, const Workload& workload) {
  EventLoop loop(worker, listener, workload);
  if (loop.start()) loop.run();
}

}  // namespace lbbench
