// SPDX-License-Identifier: MIT
// Waking who sleeps: two threads wake each other in turn, so that one iteration is two wake-ups (items). By what liblb uses:
// EPOLLEXCLUSIVE (workers on a listening socket), a packet on a channel (hand-offs), an eventfd through io_uring (the primary's
// doorbell); and by a futex, the least that the kernel can do.
#include <benchmark/benchmark.h>
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "sys/doorbell.hh"
#include "sys/event_loop.hh"
#include "wire/channel.hh"

namespace lb {
namespace {

UniqueFd epoll_on(int fd, uint32_t events) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = events;
  ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event);
  return epoll;
}

void wait_on(const UniqueFd& epoll) {
  epoll_event ready;
  while (::epoll_wait(epoll.get(), &ready, 1, -1) != 1) {
  }
}

/// An end is where one thread waits and the other wakes it.
class ExclusiveEnd {
 public:
  void wake() { Doorbell::ring(bell_.fd()); }
  void wait() {
    wait_on(epoll_);
    bell_.silence();
  }

 private:
  Doorbell bell_ = Doorbell::create().value();
  UniqueFd epoll_ = epoll_on(bell_.fd(), EPOLLIN | EPOLLEXCLUSIVE);
};

class ChannelEnd {
 public:
  void wake() { (void)send_packet(ends_.first.get(), "x", 1, {}); }
  void wait() {
    wait_on(epoll_);
    char byte = 0;
    (void)receive_packet(ends_.second.get(), &byte, 1, packet_);
  }

 private:
  std::pair<UniqueFd, UniqueFd> ends_ = make_channel().value();
  UniqueFd epoll_ = epoll_on(ends_.second.get(), EPOLLIN);
  Packet packet_;
};

/// The ring belongs to the thread that makes it: here, the one that waits.
class UringEnd {
 public:
  void wake() { Doorbell::ring(bell_.fd()); }
  void wait() {
    if (!loop_) {
      loop_ = EventLoop::create_uring().value();
      (void)loop_->watch(bell_.fd(), [this] {
        bell_.silence();
        rang_ = true;
      });
    }
    while (!std::exchange(rang_, false)) (void)loop_->turn(-1);
  }

 private:
  Doorbell bell_ = Doorbell::create().value();
  std::unique_ptr<EventLoop> loop_;
  bool rang_ = false;
};

class FutexEnd {
 public:
  void wake() {
    word_.store(1);
    ::syscall(SYS_futex, &word_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }
  void wait() {
    while (word_.exchange(0) == 0) ::syscall(SYS_futex, &word_, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
  }

 private:
  std::atomic<uint32_t> word_ = 0;
};

template <class End>
void wake_up(benchmark::State& state) {
  End here;
  End there;
  std::atomic<bool> over = false;
  std::thread thread([&] {
    for (;;) {
      there.wait();
      if (over) return;
      here.wake();
    }
  });
  for (auto _ : state) {
    there.wake();
    here.wait();
  }
  over = true;
  there.wake();
  thread.join();
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * 2);
}
BENCHMARK(wake_up<ExclusiveEnd>)->UseRealTime();
BENCHMARK(wake_up<ChannelEnd>)->UseRealTime();
BENCHMARK(wake_up<UringEnd>)->UseRealTime();
BENCHMARK(wake_up<FutexEnd>)->UseRealTime();

}  // namespace
}  // namespace lb
