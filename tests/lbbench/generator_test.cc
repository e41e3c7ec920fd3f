// SPDX-License-Identifier: MIT
#include "generator.hh"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "child.hh"
#include "clock.hh"
#include "measure.hh"
#include "shared_array.hh"

namespace lbbench {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kMs = 1'000'000;

/// A server of one process that answers at once, one connection after another.
class Server {
 public:
  Server() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_.get(), 1024) != 0 ||
        getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw std::runtime_error("no listener");
    port_ = ntohs(address.sin_port);
    child_.emplace([this] { return serve(); });
  }
  uint16_t port() const { return port_; }
  pid_t pid() const { return child_->pid(); }

 private:
  int serve() const {
    while (true) {
      const lb::UniqueFd client(accept(listener_.get(), nullptr, nullptr));
      Request request{};
      if (recv(client.get(), &request, sizeof request, MSG_WAITALL) != sizeof request) continue;
      const Answer answer{.service_error_ns = 0, .worker = 1, .reserved = 0};
      (void)send(client.get(), &answer, sizeof answer, MSG_NOSIGNAL);
    }
  }

  lb::UniqueFd listener_;
  uint16_t port_ = 0;
  std::optional<Child> child_;
};

/// A generator in a process of its own, with an arrival every 5 ms for a second.
class Load {
 public:
  explicit Load(uint16_t port) {
    for (uint64_t i = 0; i < kArrivals; ++i) trace_.push_back({.at_ns = i * 5 * kMs, .service_ns = 0});
    child_.emplace([this, port] {
      return Generator({.port = port,
                        .origin_ns = origin_ns_,
                        .end_ns = kArrivals * 5 * kMs,
                        .trace = trace_,
                        .clients = 0,
                        .requests = 1,
                        .each_request = false,
                        .records = records_.all(),
                        .stop = &stop_[0],
                        .http = false,
                        .work = Work::sleep,
                        .service_less_ns = 0})
          .run();
    });
  }
  pid_t pid() const { return child_->pid(); }
  /// Until the first connection has been answered.
  void wait_for_answer() const {
    const volatile Outcome& outcome = records_[0].outcome;
    while (outcome == Outcome::pending && !child_->ended()) std::this_thread::sleep_for(1ms);
  }
  RunResult finish() {
    EXPECT_EQ(child_->wait(30'000), 0);
    RunResult result;
    measure(records_.all(), {0, kArrivals * 5 * kMs}, {}, result);
    return result;
  }

 private:
  static constexpr uint64_t kArrivals = 200;

  Trace trace_;
  const SharedArray<Record> records_{kArrivals};
  const SharedArray<std::atomic<bool>> stop_{1};
  const uint64_t origin_ns_ = now_ns() + 20 * kMs;
  std::optional<Child> child_;
};

/// Stops a process for a second, or more on a busy machine.
void stall(pid_t pid) {
  int status = 0;
  ASSERT_EQ(kill(pid, SIGSTOP), 0);
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  ASSERT_TRUE(WIFSTOPPED(status));
  std::this_thread::sleep_for(1s);
  ASSERT_EQ(kill(pid, SIGCONT), 0);
}

TEST(Generator, a_server_that_stood_still_for_a_second_shows_it_in_p99) {
  const Server server;
  Load load(server.port());
  load.wait_for_answer();
  stall(server.pid());
  const RunResult result = load.finish();
  EXPECT_EQ(result.completed, 200U);
  EXPECT_GE(result.latency.p99, 500);  // those that were due in the first half of the stop
}

TEST(Generator, that_stood_still_itself_says_so_and_does_not_hide_the_wait) {
  const Server server;
  Load load(server.port());
  load.wait_for_answer();
  stall(load.pid());
  const RunResult result = load.finish();
  EXPECT_EQ(result.completed, 200U);
  EXPECT_GE(result.generator.late_p99_ms, 500);
  EXPECT_GE(result.latency.p99, 500);
}

}  // namespace
}  // namespace lbbench
