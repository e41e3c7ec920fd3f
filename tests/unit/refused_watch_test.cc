// SPDX-License-Identifier: MIT
// Backends whose loop has no room for their socket for a while, as epoll has not beyond /proc/sys/fs/epoll/max_user_watches: they
// come to it later, by themselves.
#include "backends/heritage.hh"
#include "surroundings.hh"
#include "sys/process.hh"
#include "sys/socket.hh"

namespace lb::test {
namespace {

/// An epoll loop that refuses the next few descriptors.
class RefusingLoop final : public EventLoop {
 public:
  const char* name() const noexcept override { return "refusing"; }
  int fd() noexcept override { return loop_->fd(); }
  Result<Token> watch(int fd, OnReadable on_readable) noexcept override {
    if (refused()) return Error{ENOSPC, "epoll_ctl"};
    return loop_->watch(fd, std::move(on_readable));
  }
  Result<Token> accept(int fd, OnAccept on_accept) noexcept override {
    if (refused()) return Error{ENOSPC, "epoll_ctl"};
    return loop_->accept(fd, std::move(on_accept));
  }
  void pause(Token token) noexcept override { loop_->pause(token); }
  Result<void> resume(Token token) noexcept override {
    if (refused()) return Error{ENOSPC, "epoll_ctl"};
    return loop_->resume(token);
  }
  void cancel(Token token) noexcept override { loop_->cancel(token); }
  Result<void> turn(int timeout_ms) noexcept override { return loop_->turn(timeout_ms); }

  int refuse = 0;  ///< so many more

 private:
  bool refused() noexcept { return refuse > 0 && refuse-- > 0; }
  std::unique_ptr<EventLoop> loop_ = EventLoop::create_epoll().value();
};

class RefusedWatch : public testing::Test {
 protected:
  static constexpr Seat kSeat{7, 0};

  Heritage heritage() {
    const auto any = Endpoint::parse("tcp://127.0.0.1:0").value();
    auto socket = bind_to(any, {}).value();
    address_ = local_address(socket.get()).value();
    listen_on(socket.get(), 16, address_).value();
    return Heritage{BoundSocket::adopt(std::move(socket), address_)};
  }
  ListenRequest request() const { return {address_, {}, 0, Policy::parse("round-robin").value()}; }
  /// As the primary does. False when a backend does not come to it, and would sleep for ever.
  template <class Enough>
  bool turn_until(EndpointBackend& backend, Enough enough) {
    const uint64_t deadline_ns = now_ns() + 10'000'000'000;
    while (!enough()) {
      if (now_ns() > deadline_ns) return false;
      const int next_ms = backend.next_turn_ms();
      loop_.turn(next_ms < 0 ? 1000 : next_ms).value();
      backend.turn();
    }
    return true;
  }

  Endpoint address_;
  TestSurroundings around_{1, std::make_unique<RefusingLoop>()};
  RefusingLoop& loop_ = static_cast<RefusingLoop&>(around_.loop());
};

uint32_t queued(const EndpointBackend& backend) {
  EndpointStatus status;
  backend.describe(status);
  return status.queued;
}

TEST_F(RefusedWatch, round_robin_that_may_not_begin_to_accept_begins_later) {
  auto sockets = heritage();
  const auto backend = make_round_robin_backend(around_.get(), request(), &sockets).value();
  backend->grant(kSeat).value();
  loop_.refuse = 2;
  backend->ready(kSeat);
  const auto client = connect_to(address_);
  EXPECT_TRUE(turn_until(*backend, [&] { return queued(*backend) == 1; }));
  EXPECT_EQ(loop_.refuse, 0);
}

TEST_F(RefusedWatch, round_robin_that_may_not_go_on_accepting_goes_on_later) {
  around_.get().queue_max = 1;
  auto sockets = heritage();
  const auto backend = make_round_robin_backend(around_.get(), request(), &sockets).value();
  backend->grant(kSeat).value();
  backend->ready(kSeat);
  const auto first = connect_to(address_);
  ASSERT_TRUE(turn_until(*backend, [&] { return queued(*backend) == 1; }));  // that is all that it may hold: it pauses
  loop_.refuse = 2;
  around_.page(kSeat.slot).cells[0].waiting = LB_WAITING_IDLE;
  backend->turn();  // a worker would ring
  ASSERT_TRUE(turn_until(*backend, [&] { return queued(*backend) == 0; }));
  EXPECT_LT(loop_.refuse, 2);
  const auto second = connect_to(address_);
  EXPECT_TRUE(turn_until(*backend, [&] { return queued(*backend) == 1; }));
}

TEST_F(RefusedWatch, shared_that_cannot_watch_its_queue_looks_at_it_and_watches_it_later) {
  auto sockets = heritage();
  const auto backend = make_shared_backend(around_.get(), request(), &sockets).value();
  backend->grant(kSeat).value();
  loop_.refuse = 2;
  backend->ready(kSeat);
  ASSERT_GE(backend->next_turn_ms(), 0) << "it has given up";
  ASSERT_TRUE(turn_until(*backend, [&] { return loop_.refuse == 0 && backend->next_turn_ms() < 0; }));
  const auto client = connect_to(address_);
  EXPECT_TRUE(turn_until(*backend, [&] { return around_.count(kSeat.worker, Act::nudge) != 0; }));
}

}  // namespace
}  // namespace lb::test
