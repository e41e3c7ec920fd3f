// SPDX-License-Identifier: MIT
#include "sys/event_loop.hh"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <vector>

#include "sys/error.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

constexpr int kAcceptBudget = 64;  // connections in one turn, so that nothing else starves
constexpr int kEventsMax = 128;

/// epoll + accept4, level-triggered: what containers that forbid io_uring get.
class EpollLoop final : public EventLoop {
 public:
  explicit EpollLoop(UniqueFd epoll) : epoll_(std::move(epoll)) {}

  const char* name() const noexcept override { return "epoll"; }
  int fd() noexcept override { return epoll_.get(); }

  Result<Token> watch(int fd, OnReadable on_readable) noexcept override {
    return add(Entry{fd, std::move(on_readable), {}, false, false});
  }
  Result<Token> accept(int listening_fd, OnAccept on_accept) noexcept override {
    return add(Entry{listening_fd, {}, std::move(on_accept), false, false});
  }

  void pause(Token token) noexcept override {
    Entry* entry = find(token);
    if (entry == nullptr || entry->paused) return;
    entry->paused = true;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, entry->fd, nullptr);
  }
  Result<void> resume(Token token) noexcept override {
    Entry* entry = find(token);
    if (entry == nullptr || !entry->paused) return {};
    if (!control(EPOLL_CTL_ADD, entry->fd, token)) return last_error("epoll_ctl");
    entry->paused = false;
    return {};
  }
  void cancel(Token token) noexcept override {
    Entry* entry = find(token);
    if (entry == nullptr || abandoned_) return;
    if (!entry->paused) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, entry->fd, nullptr);
    entry->cancelled = true;  // destroyed after the turn: this may be its own callback
    ++cancelled_;
  }

  Result<void> turn(int timeout_ms) noexcept override {
    epoll_event events[kEventsMax];
    int ready = ::epoll_wait(epoll_.get(), events, kEventsMax, 0);
    if (ready == 0) {
      const Sleep sleep = ask_to_sleep(timeout_ms);
      if (sleep != Sleep::no) ready = ::epoll_wait(epoll_.get(), events, kEventsMax, nap(sleep) ? 0 : timeout_ms);
    }
    tell_awake();
    if (ready < 0) return errno == EINTR ? Result<void>() : last_error("epoll_wait");
    for (int i = 0; i < ready; ++i) dispatch(events[i].data.u64);
    sweep();
    return {};
  }

 private:
  struct Entry {
    int fd;
    OnReadable on_readable;
    OnAccept on_accept;
    bool paused;
    bool cancelled;
  };

  Result<Token> add(Entry entry) noexcept {
    const Token token = ++last_token_;
    if (!control(EPOLL_CTL_ADD, entry.fd, token)) return last_error("epoll_ctl");
    entries_.emplace_back(token, std::make_unique<Entry>(std::move(entry)));
    return token;
  }
  bool control(int operation, int fd, Token token) noexcept {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = token;
    return ::epoll_ctl(epoll_.get(), operation, fd, &event) == 0;
  }
  Entry* find(Token token) noexcept {
    for (auto& [key, entry] : entries_)
      if (key == token && !entry->cancelled) return entry.get();
    return nullptr;
  }

  void dispatch(Token token) noexcept {
    Entry* entry = find(token);
    if (entry == nullptr) return;
    if (entry->on_readable) return entry->on_readable();
    for (int i = 0; i < kAcceptBudget && !entry->paused && !entry->cancelled; ++i) {
      auto accepted = accept_from(entry->fd, true);
      if (accepted && !*accepted) return;
      if (!accepted) pause(token);
      entry->on_accept(std::move(accepted));
    }
  }
  void sweep() noexcept {
    if (cancelled_ == 0) return;
    std::erase_if(entries_, [](const auto& item) { return item.second->cancelled; });
    cancelled_ = 0;
  }

  UniqueFd epoll_;
  std::vector<std::pair<Token, std::unique_ptr<Entry>>> entries_;
  Token last_token_ = 0;
  int cancelled_ = 0;
};

}  // namespace

/// Connections that arrive wake nobody here; all of them are met afterwards, at once.
bool EventLoop::nap(Sleep sleep) const noexcept {
  if (sleep != Sleep::briefly) return false;
  constexpr timespec at_most{0, 100'000};
  pollfd waiting{bell, POLLIN, 0};
  (void)::ppoll(&waiting, 1, &at_most, nullptr);
  return true;
}

Result<std::unique_ptr<EventLoop>> EventLoop::create_epoll() noexcept {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return last_error("epoll_create1");
  return std::unique_ptr<EventLoop>(std::make_unique<EpollLoop>(std::move(epoll)));
}

}  // namespace lb
