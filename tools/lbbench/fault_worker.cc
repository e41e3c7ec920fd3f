// SPDX-License-Identifier: MIT
#include "fault_worker.hh"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <lb/lb.hh>
#include <unordered_map>

#include "clock.hh"
#include "protocol.hh"

namespace lbbench {
namespace {

constexpr int kBacklog = 4096;
constexpr int kEventsMax = 64;
constexpr uint64_t kListener = 0;  // in epoll's data; connections have their fd
constexpr uint64_t kPrimary = 1;

/// False when that was the last, or the client has gone.
bool answer(int fd, const Request& request, uint32_t worker, const Workload& workload) {
  const Answer reply{.service_error_ns = workload.spend(now_ns(), request.service_ns), .worker = worker, .reserved = 0};
  return send(fd, &reply, sizeof reply, MSG_NOSIGNAL) == sizeof reply && request.last == 0;
}

/// Marks the time in which a connection may be this worker's without its code knowing.
class Taking {
 public:
  explicit Taking(WorkerLine& line) : line_(line) { line_.taking.store(1); }
  ~Taking() { line_.taking.store(0); }
  Taking(const Taking&) = delete;
  Taking& operator=(const Taking&) = delete;

 private:
  WorkerLine& line_;
};

class Serving {
 public:
  Serving(lb::Worker& worker, lb::Listener& listener, const Workload& workload, Ledger& ledger, uint32_t number)
      : worker_(worker), listener_(listener), workload_(workload), ledger_(ledger), number_(number), line_(ledger.workers[number]) {
  }

  int serially() {
    while (auto connection = accept()) {
      Request request{};
      while (recv(connection->fd(), &request, sizeof request, MSG_WAITALL) == sizeof request &&
             answer(connection->fd(), request, number_, workload_)) {
      }
    }
    return listener_.error().code;
  }

  int by_event_loop() {
    epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{.events = EPOLLIN, .data = {.u64 = kPrimary}};
    if (!epoll_ || epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, worker_.fd(), &event) != 0 || !listener_.watch(epoll_.get(), kListener))
      return EMFILE;
    bool more = true;  // try_accept has not yet said that there is none
    std::array<epoll_event, kEventsMax> events;
    while (!(listener_.drained() && sessions_.empty())) {
      const int n = epoll_wait(epoll_.get(), events.data(), kEventsMax, more ? 0 : -1);
      if (n < 0 && errno != EINTR) return errno;
      for (int i = 0; i < n; ++i) {
        const uint64_t what = events[static_cast<size_t>(i)].data.u64;
        if (what == kListener) more = true;
        if (what == kPrimary) {
          if (!worker_.dispatch()) return 0;
          more |= worker_.draining();  // to learn from try_accept that nothing is left
        }
        if (what > kPrimary) turn(static_cast<int>(what));
      }
      if (!more) continue;
      auto taken = try_accept();
      if (!taken) return taken.error().code;
      more = *taken;
    }
    return 0;
  }

 private:
  struct Session {
    lb::Connection connection;
    Request request{};
    size_t have = 0;
  };

  std::optional<lb::Connection> accept() {
    const Taking taking(line_);
    auto connection = listener_.accept();
    if (connection) ledger_.took(connection->fd(), number_);
    return connection;
  }

  /// Whether there was one.
  lb::Result<bool> try_accept() {
    lb::Connection connection;
    {
      const Taking taking(line_);
      auto taken = listener_.try_accept();
      if (!taken) {
        const int code = taken.error().code;
        if (code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM) return false;  // it passes
        return taken.error();
      }
      if (!*taken) return false;
      connection = std::move(**taken);
      ledger_.took(connection.fd(), number_);
    }
    const int fd = connection.fd();
    epoll_event event{.events = EPOLLIN, .data = {.u64 = static_cast<uint64_t>(fd)}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return lb::Error{errno, "epoll_ctl"};
    sessions_.emplace(fd, Session{.connection = std::move(connection)});
    turn(fd);
    return true;
  }

  void turn(int fd) {
    const auto found = sessions_.find(fd);
    if (found == sessions_.end()) return;
    Session& session = found->second;
    auto* to = reinterpret_cast<char*>(&session.request) + session.have;
    const ssize_t n = recv(fd, to, sizeof session.request - session.have, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) session.have += static_cast<size_t>(n);
    if (n > 0 && session.have < sizeof session.request) return;
    session.have = 0;
    if (n <= 0 || !answer(fd, session.request, number_, workload_)) sessions_.erase(found);
  }

  lb::Worker& worker_;
  lb::Listener& listener_;
  const Workload& workload_;
  Ledger& ledger_;
  const uint32_t number_;
  WorkerLine& line_;
  lb::UniqueFd epoll_;
  std::unordered_map<int, Session> sessions_;
};

}  // namespace

void allow_descriptors() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

int serve_accounted(lb::Worker& worker, WorkerModel model, const Workload& workload, Ledger& ledger, uint32_t first) {
  allow_descriptors();
  auto listener = worker.listen("tcp://127.0.0.1:0", {.backlog = kBacklog});
  if (!listener) return listener.error().code;
  Serving serving(worker, *listener, workload, ledger, first + worker.id());
  const int failed = model == WorkerModel::serial ? serving.serially() : serving.by_event_loop();
  if (failed != 0) _exit(failed);  // as one that crashes: the last to close its listener would give up the endpoint
  return 0;
}

}  // namespace lbbench
