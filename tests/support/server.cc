// SPDX-License-Identifier: MIT
#include "server.hh"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>

#include "wire.hh"

namespace lb::test {
namespace {

void repeat_number(int fd, Number number, Board& board) noexcept {
  ++board.served[number % Board::kNumbers];
  ::send(fd, &number, sizeof number, MSG_NOSIGNAL);
}

int answer_blocking(Worker& worker, Listener& listener, Board& board) {
  while (auto connection = listener.accept()) {
    ++board.accepted[worker.id()];
    answer_one(worker, *connection, board);
  }
  if (listener.error().code != 0) return board.fail("accept: " + listener.error().message());
  return listener.drained() ? 0 : board.fail("accept() is empty, but the worker is not drained");
}

/// An event loop as users write them: accepts when told to, answers when the number comes, leaves when drained.
class EventLoop {
 public:
  EventLoop(Worker& worker, Listener& listener, Board& board)
      : worker_(worker), listener_(listener), board_(board), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

  int run(Style style) {
    if (style == Style::watch) {
      if (const auto watched = listener_.watch(epoll_.get(), kListener); !watched) {
        return board_.fail("watch: " + watched.error().message());
      }
    } else {
      add(listener_.fd(), kListener);
    }
    add(worker_.fd(), kWorker);
    while (!finished()) {
      std::array<epoll_event, 16> events{};
      const int n = ::epoll_wait(epoll_.get(), events.data(), events.size(), -1);
      if (n < 0 && errno != EINTR) return board_.fail(std::string("epoll_wait: ") + std::strerror(errno));
      for (int i = 0; i < n; ++i) handle(events[static_cast<size_t>(i)].data.u64);
      if (worker_.draining() || n < 0) accept_all();
    }
    return failed_ ? 3 : 0;
  }

 private:
  static constexpr uint64_t kListener = ~0ULL;
  static constexpr uint64_t kWorker = ~0ULL - 1;

  bool finished() const { return failed_ || (worker_.draining() && listener_.drained() && connections_.empty()); }

  void add(int fd, uint64_t data) const {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = data}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      board_.fail(std::string("epoll_ctl: ") + std::strerror(errno));
    }
  }

  void handle(uint64_t data) {
    if (data == kListener) return accept_all();
    if (data != kWorker) return answer(static_cast<int>(data));
    if (const auto said = worker_.dispatch(); !said) fail("dispatch: " + said.error().message());
  }

  void accept_all() {
    while (true) {
      auto accepted = listener_.try_accept();
      if (!accepted) {
        const int code = accepted.error().code;
        if (code != EMFILE && code != ENFILE && code != ENOBUFS && code != ENOMEM) {
          fail("try_accept: " + accepted.error().message());
        }
        return;
      }
      if (!*accepted) return;
      ++board_.accepted[worker_.id()];
      const int fd = (*accepted)->fd();
      if (!say_hello(worker_, fd)) continue;
      add(fd, static_cast<uint64_t>(fd));
      connections_.emplace(fd, std::move(**accepted));
    }
  }

  void answer(int fd) {
    // An event for one that is closed already: epoll keeps a socket for as long as the primary has its copy (epoll(7), Q6). The
    // number may by now be another thread's descriptor.
    if (connections_.count(fd) == 0) return;
    Number number = 0;
    const ssize_t n = ::recv(fd, &number, sizeof number, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n == sizeof number) repeat_number(fd, number, board_);
    connections_.erase(fd);
  }

  void fail(const std::string& why) {
    board_.fail(why);
    failed_ = true;
  }

  Worker& worker_;
  Listener& listener_;
  Board& board_;
  UniqueFd epoll_;
  std::map<int, Connection> connections_;
  bool failed_ = false;
};

}  // namespace

const char* name_of(Style style) noexcept {
  constexpr std::array names{"blocking", "watch", "fd"};
  return names[static_cast<size_t>(style)];
}

bool say_hello(const Worker& worker, int fd) noexcept {
  const Hello hello{.worker = worker.id(), .pid = ::getpid()};
  return ::send(fd, &hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello;
}

bool answer_one(Worker& worker, const Connection& connection, Board& board) {
  if (!say_hello(worker, connection.fd())) return false;
  Number number = 0;
  ssize_t n = 0;
  do {
    n = ::recv(connection.fd(), &number, sizeof number, MSG_WAITALL);
  } while (n < 0 && errno == EINTR);
  if (n != sizeof number) return false;
  repeat_number(connection.fd(), number, board);
  return true;
}

int answer_all(Worker& worker, Listener& listener, Style style, Board& board) {
  board.port[worker.id()] = listener.address().port();
  if (style == Style::blocking) return answer_blocking(worker, listener, board);
  return EventLoop(worker, listener, board).run(style);
}

WorkerFunction answering(Style style, Board& board, std::string endpoint, ListenOptions options) {
  return [=, &board](Worker& worker) {
    auto listener = worker.listen(endpoint, options);
    if (!listener) return board.fail(listener.error().message());
    return answer_all(worker, *listener, style, board);
  };
}

std::string answering_argument(Style style, const std::string& endpoint) {
  return std::to_string(static_cast<int>(style)) + endpoint;
}

const Program kAnswering("answering", [](Worker& worker, Board& board, const std::string& argument) {
  return answering(static_cast<Style>(argument[0] - '0'), board, argument.substr(1))(worker);
});

/// One event loop, two listeners.
int answer_both(Worker& worker, std::array<Listener, 2> listeners, Board& board) {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event told{.events = EPOLLIN, .data = {.u64 = 2}};
  ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, worker.fd(), &told);
  for (uint64_t i = 0; i < 2; ++i) {
    if (!listeners[i].watch(epoll.get(), i)) return board.fail("watch");
  }
  while (!(worker.draining() && listeners[0].drained() && listeners[1].drained())) {
    epoll_event event{};
    if (::epoll_wait(epoll.get(), &event, 1, -1) < 0) continue;
    if (event.data.u64 == 2 && !worker.dispatch()) return board.fail("dispatch");
    for (auto& listener : listeners) {
      while (auto connection = listener.try_accept().value()) {
        ::fcntl(connection->fd(), F_SETFL, 0);
        answer_one(worker, *connection, board);
      }
    }
  }
  return 0;
}

void pretend_to_wait(Listener& listener, const Gate& gate) {
  (void)listener.fd();
  gate.wait();
}

}  // namespace lb::test
