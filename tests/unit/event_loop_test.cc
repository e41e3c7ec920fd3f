// SPDX-License-Identifier: MIT
// The primary's loop: the same behaviour from io_uring and from epoll.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <string>
#include <vector>

#include "sys/event_loop.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

class Loop : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto loop = GetParam() == "io_uring" ? EventLoop::create_uring() : EventLoop::create_epoll();
    if (!loop) GTEST_SKIP() << loop.error().message();
    loop_ = std::move(*loop);
    EXPECT_EQ(loop_->name(), GetParam());
  }
  UniqueFd listen() {
    auto socket = bind_to(Endpoint::parse("tcp://127.0.0.1:0").value(), {}).value();
    address_ = local_address(socket.get()).value();
    listen_on(socket.get(), 64, address_).value();
    return socket;
  }
  UniqueFd connect() {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), address_.address(), address_.length()), 0);
    return fd;
  }
  /// Turns until `enough`; a loop that does not come to it fails by the test's own timeout.
  template <class Enough>
  void turn_until(Enough enough) {
    while (!enough()) loop_->turn(1000).value();
  }

  std::unique_ptr<EventLoop> loop_;
  Endpoint address_;
};

TEST_P(Loop, readable_descriptor_calls_back_in_every_turn_until_it_is_read) {
  const UniqueFd event(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
  int calls = 0;
  loop_->watch(event.get(), [&] { ++calls; }).value();
  turn_until([&] { return calls >= 3; });
  uint64_t count = 0;
  ASSERT_EQ(::read(event.get(), &count, sizeof count), 8);
  loop_->turn(0).value();  // one that was under way may still come
  const int seen = calls;
  loop_->turn(0).value();
  EXPECT_LE(calls, seen + 1);
}

TEST_P(Loop, cancelled_watch_is_silent_also_when_it_cancels_itself) {
  const UniqueFd event(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
  int calls = 0;
  EventLoop::Token token = 0;
  token = loop_
              ->watch(event.get(),
                      [&] {
                        ++calls;
                        loop_->cancel(token);
                      })
              .value();
  turn_until([&] { return calls == 1; });
  for (int i = 0; i < 3; ++i) loop_->turn(0).value();
  EXPECT_EQ(calls, 1);
}

TEST_P(Loop, accepts_all_connections_non_blocking_and_close_on_exec) {
  const UniqueFd socket = listen();
  std::vector<UniqueFd> accepted;
  const auto token = loop_->accept(socket.get(), [&](Result<UniqueFd> fd) { accepted.push_back(std::move(fd).value()); }).value();
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(connect());
  turn_until([&] { return accepted.size() == 20; });
  EXPECT_NE(::fcntl(accepted[0].get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(::fcntl(accepted[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  loop_->cancel(token);
}

TEST_P(Loop, paused_accept_leaves_connections_in_the_kernels_queue_until_it_is_resumed) {
  const UniqueFd socket = listen();
  std::vector<UniqueFd> accepted;
  const auto token = loop_->accept(socket.get(), [&](Result<UniqueFd> fd) { accepted.push_back(std::move(fd).value()); }).value();
  loop_->pause(token);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 5; ++i) clients.push_back(connect());
  loop_->turn(0).value();
  EXPECT_TRUE(accepted.empty());
  EXPECT_EQ(accept_queue_length(socket.get()), 5u);
  loop_->resume(token).value();
  turn_until([&] { return accepted.size() == 5; });
  loop_->cancel(token);
}

TEST_P(Loop, cancelled_accept_lets_go_of_the_listener) {
  UniqueFd socket = listen();
  std::vector<UniqueFd> accepted;
  const auto token = loop_->accept(socket.get(), [&](Result<UniqueFd> fd) { accepted.push_back(std::move(fd).value()); }).value();
  loop_->turn(0).value();
  loop_->cancel(token);
  socket.reset();
  EXPECT_TRUE(bind_to(address_, {}).ok()) << "the port is free";
}

TEST_P(Loop, may_sleep_is_asked_before_and_woke_is_told_after_a_sleep) {
  const UniqueFd event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  loop_->watch(event.get(), [] {}).value();
  int asked = 0;
  int woken = 0;
  loop_->may_sleep = [&] {
    ++asked;
    return EventLoop::Sleep::no;  // "there is work": the turn must come back by itself
  };
  loop_->woke = [&] { ++woken; };
  loop_->turn(-1).value();
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(woken, 1);
}

TEST_P(Loop, fd_is_readable_when_there_is_something_to_do) {
  const UniqueFd event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  int calls = 0;
  loop_
      ->watch(event.get(),
              [&] {
                uint64_t count = 0;
                (void)!::read(event.get(), &count, sizeof count);
                ++calls;
              })
      .value();
  pollfd waiting{loop_->fd(), POLLIN, 0};
  for (int i = 1; i <= 3; ++i) {
    while (::poll(&waiting, 1, 0) == 1) {
      loop_->turn(0).value();
      loop_->flush();
    }
    const uint64_t one = 1;
    ASSERT_EQ(::write(event.get(), &one, sizeof one), 8);
    while (calls < i) {
      ASSERT_EQ(::poll(&waiting, 1, 10'000), 1) << "not woken for event " << i;
      loop_->turn(0).value();
      loop_->flush();
    }
  }
}

TEST_P(Loop, connection_that_nobody_came_to_is_not_held_by_a_child) {
  const UniqueFd socket = listen();
  std::vector<UniqueFd> accepted;
  const auto token = loop_->accept(socket.get(), [&](Result<UniqueFd> fd) { accepted.push_back(std::move(fd).value()); }).value();
  const UniqueFd client = connect();
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  loop_->before_fork();
  const pid_t child = ::fork();
  if (child == 0) {
    loop_->abandon();
    loop_.reset();
    char byte = 0;
    ::close(ends[1]);
    (void)!::read(ends[0], &byte, 1);  // lives until the parent has seen the end
    ::_exit(0);
  }
  loop_->after_fork();
  turn_until([&] { return accepted.size() == 1; });
  accepted.clear();
  char byte = 0;
  EXPECT_EQ(::recv(client.get(), &byte, 1, 0), 0) << "the child's copy keeps the client from its FIN";
  ::close(ends[0]);
  ::close(ends[1]);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  loop_->cancel(token);
}

INSTANTIATE_TEST_SUITE_P(every, Loop, testing::Values(std::string("io_uring"), std::string("epoll")),
                         [](const auto& parameter) { return parameter.param; });

}  // namespace
}  // namespace lb
