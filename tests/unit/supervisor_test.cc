// SPDX-License-Identifier: MIT
#include "primary/supervisor.hh"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <cerrno>

namespace lb {
namespace {

/// Has room for so many descriptors, and never calls back.
class ScarceLoop final : public EventLoop {
 public:
  explicit ScarceLoop(int room) : room_(room) {}
  const char* name() const noexcept override { return "scarce"; }
  int fd() noexcept override { return -1; }
  Result<Token> watch(int, OnReadable) noexcept override {
    if (watched_ == room_) return Error{ENOSPC, "watch"};
    ++watched_;
    return ++last_;
  }
  Result<Token> accept(int, OnAccept) noexcept override { return Error{ENOSPC, "accept"}; }
  void pause(Token) noexcept override {}
  Result<void> resume(Token) noexcept override { return {}; }
  void cancel(Token token) noexcept override { watched_ -= token != 0 ? 1 : 0; }
  Result<void> turn(int) noexcept override { return {}; }
  int watched() const noexcept { return watched_; }

 private:
  int room_;
  int watched_ = 0;
  Token last_ = 0;
};

class SupervisorTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(room, SupervisorTest, testing::Values(0, 1, 2));

TEST_P(SupervisorTest, worker_that_cannot_be_watched_is_the_spawns_error_and_nothing_of_it_is_left) {
  ScarceLoop loop(GetParam());
  const std::string reason;
  auto board = Scoreboard::create(UniqueFd(), 4).value();
  const UniqueFd doorbell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const InheritedSockets inherited;
  Options options;
  Surroundings around{loop,
                      reason,
                      board,
                      doorbell.get(),
                      1,
                      1,
                      0,
                      nullptr,
                      true,
                      false,
                      [](uint32_t, Message&, auto) { return Result<void>(); },
                      inherited,
                      [](uint32_t, Event::Kind) {}};
  Supervisor supervisor(options, around);
  supervisor.abandon = [] {};
  supervisor.on_message = [](WorkerRecord&) {};
  supervisor.on_user_message = [](WorkerRecord&) {};
  Recipe recipe;
  recipe.function = [](Worker&) { return 0; };
  for (int i = 0; i < 8; ++i) {  // more than there are slots
    const auto spawned = supervisor.spawn(recipe);
    ASSERT_FALSE(spawned);
    EXPECT_EQ(spawned.error().code, ENOSPC);
    EXPECT_STREQ(spawned.error().op, "watch");
  }
  EXPECT_TRUE(supervisor.workers().empty());
  EXPECT_EQ(loop.watched(), 0);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

}  // namespace
}  // namespace lb
