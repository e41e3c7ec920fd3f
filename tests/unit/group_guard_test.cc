// SPDX-License-Identifier: MIT
// When the program is taken to be gone: workers accept what it has not picked.
#include <gtest/gtest.h>

#include "backends/group_guard.hh"
#include "surroundings.hh"
#include "sys/socket.hh"

namespace lb::test {
namespace {

constexpr int kLook_ms = 85;

/// Of whose picks the test decides.
class FakeProgram final : public ReuseportProgram {
 public:
  Rung rung() const noexcept override { return Rung::in_flight; }
  const std::string& reason() const noexcept override { return reason_; }
  Result<void> attach(int) noexcept override { return ++attached, Result<void>(); }
  Result<void> insert(uint32_t, int) noexcept override { return {}; }
  void remove(uint32_t) noexcept override {}
  lb_group& group() noexcept override { return group_; }
  const lb_slot_picks* picks() const noexcept override { return picked.data(); }
  bool hung(uint32_t) const noexcept override { return false; }
  void pardon(uint32_t) noexcept override {}
  int picks_fd() const noexcept override { return -1; }
  std::array<uint64_t, LB_EXIT_COUNT> exits() const noexcept override { return {}; }

  std::array<lb_slot_picks, LB_MAX_SLOTS> picked{};
  int attached = 0;

 private:
  lb_group group_{};
  std::string reason_;
};

/// Two workers on two listening sockets.
class Guard : public testing::Test {
 protected:
  Guard() {
    for (Slot& slot : slots_) {
      slot.socket = bind_to(Endpoint::parse("tcp://127.0.0.1:0").value(), {}).value();
      EXPECT_TRUE(listen_on(slot.socket.get(), 16, {}));
    }
    look();
  }
  void look() {
    ::poll(nullptr, 0, kLook_ms);
    guard_.turn(&program_, local_address(slots_[0].socket.get()).value());
  }
  void accept(uint32_t slot, uint64_t count) { atomic(around_.page(slot).cells[0].accepted).fetch_add(count); }

  TestSurroundings around_{2};
  std::vector<Slot> slots_{2};
  FakeProgram program_;
  GroupGuard guard_{around_.get(), 0, slots_};
};

TEST_F(Guard, puts_the_program_back_when_it_picks_none_of_what_is_accepted) {
  accept(0, 1);
  look();
  EXPECT_EQ(guard_.reattached(), 0u) << "it may have been picked before";
  accept(0, 1);
  look();
  EXPECT_EQ(guard_.reattached(), 1u);
  EXPECT_EQ(program_.attached, 1);
}

TEST_F(Guard, tells_of_it_once_until_the_program_picks_again) {
  for (int i = 0; i < 6; ++i) {
    accept(0, 1000);
    look();
  }
  EXPECT_EQ(guard_.reattached(), 1u);
  EXPECT_GT(program_.attached, 1) << "somebody may detach it each time";
  ++program_.picked[0].picks;
  for (int i = 0; i < 3; ++i) {
    accept(0, 1000);
    look();
  }
  EXPECT_EQ(guard_.reattached(), 2u);
}

TEST_F(Guard, does_not_mind_what_was_taken_by_another_way) {
  for (const uint32_t slot : {0U, 1U}) {
    accept(slot, 1000);
    guard_.recount(slot);
    look();
  }
  EXPECT_EQ(program_.attached, 0);
}

}  // namespace
}  // namespace lb::test
