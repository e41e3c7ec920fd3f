// SPDX-License-Identifier: MIT
// The io_uring loop on kernels that answer otherwise than the one at hand: what liburing says passes through here.
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "sys/event_loop.hh"
#include "sys/socket.hh"

namespace {

std::deque<int> g_answers;  // to the next calls that wait, which then do nothing
bool g_old_kernel = false;  // before 6.1: completions come at any system call
unsigned g_rings = 0;

template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" int io_uring_submit_and_wait(io_uring* ring, unsigned count) {
  static const auto next = real<int(io_uring*, unsigned)>("io_uring_submit_and_wait");
  if (g_answers.empty()) return next(ring, count);
  const int answer = g_answers.front();
  g_answers.pop_front();
  return answer;
}

extern "C" int io_uring_queue_init_params(unsigned entries, io_uring* ring, io_uring_params* params) {
  static const auto next = real<int(unsigned, io_uring*, io_uring_params*)>("io_uring_queue_init_params");
  if (g_old_kernel && (params->flags & IORING_SETUP_DEFER_TASKRUN) != 0) return -EINVAL;
  ++g_rings;
  return next(entries, ring, params);
}

namespace lb {
namespace {

class UringLoop : public testing::Test {
 protected:
  void open() {
    g_rings = 0;
    auto loop = EventLoop::create_uring();
    if (g_rings == 0 || (!loop && (loop.error().code == EPERM || loop.error().code == ENOSYS)))
      GTEST_SKIP() << loop.error().message();
    ASSERT_TRUE(loop) << loop.error().message();
    loop_ = std::move(*loop);
  }
  void TearDown() override {
    g_answers.clear();
    g_old_kernel = false;
  }
  /// A listener, and so many clients of it.
  EventLoop::Token accept(int clients, EventLoop::OnAccept on_accept) {
    auto socket = bind_to(Endpoint::parse("tcp://127.0.0.1:0").value(), {}).value();
    address_ = local_address(socket.get()).value();
    listen_on(socket.get(), 64, address_).value();
    const auto token = loop_->accept(socket.get(), std::move(on_accept)).value();
    for (int i = 0; i < clients; ++i) {
      clients_.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      EXPECT_EQ(::connect(clients_.back().get(), address_.address(), address_.length()), 0);
    }
    sockets_.push_back(std::move(socket));
    return token;
  }

  std::unique_ptr<EventLoop> loop_;
  std::vector<UniqueFd> sockets_;
  Endpoint address_;  // of the last
  std::vector<UniqueFd> clients_;
};

TEST_F(UringLoop, signal_while_the_ring_is_tried_out_does_not_rule_it_out) {
  g_answers = {-EINTR, -EINTR};
  open();
  EXPECT_TRUE(g_answers.empty());
}

TEST_F(UringLoop, kernel_that_is_busy_when_an_accept_is_taken_back_is_asked_again) {
  open();
  if (loop_ == nullptr) return;  // skipped, or failed
  const auto token = accept(0, [](const Result<UniqueFd>&) {});
  loop_->turn(0).value();
  g_answers = {-EBUSY, -EAGAIN};
  loop_->cancel(token);
  sockets_.clear();
  EXPECT_TRUE(bind_to(address_, {}).ok()) << "the accept is still armed and holds the listener";
}

/// What is accepted for one listener is put off while another is looked after.
TEST_F(UringLoop, callback_that_stops_accepting_as_a_worker_is_forked_gets_each_connection_once) {
  g_old_kernel = true;
  open();
  if (loop_ == nullptr) return;  // skipped, or failed
  std::vector<UniqueFd> accepted;
  EventLoop::Token token = 0;
  accept(5, [&](Result<UniqueFd> fd) { accepted.push_back(std::move(fd).value()); });
  token = accept(5, [&](Result<UniqueFd> fd) {
    accepted.push_back(std::move(fd).value());
    if (accepted.size() == 7) loop_->pause(token);
  });
  loop_->before_fork();
  loop_->after_fork();
  EXPECT_EQ(accepted.size(), 10u);
  for (const UniqueFd& fd : accepted) EXPECT_GE(::fcntl(fd.get(), F_GETFD), 0) << "closed behind its owner's back";
}

TEST_F(UringLoop, ring_is_not_in_a_forked_child) {
  open();
  if (loop_ == nullptr) return;  // skipped, or failed
  loop_->before_fork();
  const pid_t child = ::fork();
  if (child == 0) {
    std::ifstream maps("/proc/self/maps");
    const std::string text(std::istreambuf_iterator<char>(maps), {});
    if (text.find("io_uring") != std::string::npos) ::_exit(1);
    loop_->abandon();
    loop_.reset();
    std::error_code error;
    for (const auto& fd : std::filesystem::directory_iterator("/proc/self/fd", error))
      if (std::filesystem::read_symlink(fd, error).string().find("io_uring") != std::string::npos) ::_exit(2);
    ::_exit(0);
  }
  loop_->after_fork();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(UringLoop, callback_may_watch_as_a_worker_is_forked) {
  g_old_kernel = true;
  open();
  if (loop_ == nullptr) return;  // skipped, or failed
  std::vector<UniqueFd> accepted;
  for (int i = 0; i < 3; ++i) {
    accept(1, [&](Result<UniqueFd> fd) {
      accepted.push_back(std::move(fd).value());
      for (int j = 0; j < 100; ++j) loop_->watch(clients_[0].get(), [] {}).value();
    });
  }
  loop_->before_fork();
  loop_->after_fork();
  EXPECT_EQ(accepted.size(), 3u);
}

}  // namespace
}  // namespace lb
