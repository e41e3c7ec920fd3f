// SPDX-License-Identifier: MIT
// reuseport: the sockets of siblings, and of slots without a worker, as a worker is told of them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include "surroundings.hh"
#include "sys/socket.hh"
#include "worker/acceptor.hh"
#include "worker/slot_queues.hh"

namespace lb::test {
namespace {

UniqueFd duplicate(const UniqueFd& fd) { return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)); }

/// A worker in slot 0, without a program, and the socket of slot 1.
class SlotAcceptor : public testing::Test {
 protected:
  SlotAcceptor() {
    place_.board = Scoreboard::create({}, 4).value();
    own_ = listen();
    other_ = listen();
    Message answer;
    acceptor_ = make_slot_acceptor(place_, answer, with(own_)).value();
    EXPECT_TRUE(acceptor_->join(epoll_.get(), 1));
  }
  static UniqueFd listen() {
    const auto endpoint = Endpoint::parse("tcp://127.0.0.1:0").value();
    auto socket = bind_to(endpoint, {}).value();
    EXPECT_TRUE(listen_on(socket.get(), 16, endpoint));
    return socket;
  }
  Packet& with(const UniqueFd& fd) {
    packet_.fds[0] = duplicate(fd);
    packet_.fd_count = 1;
    return packet_;
  }
  /// The program's picks, and what was taken of them.
  void have_program() {
    auto picks = make_memory("picks", LB_MAX_SLOTS * sizeof(lb_slot_picks)).value();
    auto taken = make_memory("taken", LB_MAX_SLOTS * sizeof(lb_slot_taken)).value();
    picks_ = Mapping::map(picks.get(), LB_MAX_SLOTS * sizeof(lb_slot_picks), 0, true).value();
    taken_ = Mapping::map(taken.get(), LB_MAX_SLOTS * sizeof(lb_slot_taken), 0, true).value();
    Message answer;
    answer.value[1] = 1;
    packet_.fds[0] = duplicate(own_);
    packet_.fds[1] = std::move(picks);
    packet_.fds[2] = std::move(taken);
    packet_.fd_count = 3;
    acceptor_->leave();
    acceptor_ = make_slot_acceptor(place_, answer, packet_).value();
    atomic(place_.board.primary().rules[0]).store(LB_RULE_STEAL);
    tell(Act::siblings, with(other_));
    atomic(place_.board.page(1).in_flight).store(1);  // busy
  }
  std::atomic<uint64_t>& picks(uint32_t slot) { return atomic(static_cast<lb_slot_picks*>(picks_.get())[slot].picks); }
  std::atomic<uint32_t>& taken(uint32_t slot) { return atomic(static_cast<lb_slot_taken*>(taken_.get())[slot].taken); }
  /// One more pick of a slot, made so long ago.
  void pick(uint32_t slot, Ticks ago) {
    atomic(static_cast<lb_slot_picks*>(picks_.get())[slot].made_at[picks(slot) % LB_PICK_TIMES]).store(now_ticks() - ago);
    ++picks(slot);
  }
  bool takes_one() {
    auto one = acceptor_->take(true);
    return one && *one;
  }
  bool takes_elsewhere() {
    auto one = acceptor_->take_elsewhere(true);
    return one && *one;
  }
  void tell(Act act, Packet& packet) {
    Message message;
    message.act = act;
    message.value[0] = 1;
    acceptor_->told(message, packet);
    for (auto& fd : packet.fds) fd.reset();
  }
  bool readable() {
    epoll_event event{};
    return ::epoll_wait(epoll_.get(), &event, 1, 0) == 1;
  }

  Workplace place_;
  Packet packet_;
  Packet nothing_;
  UniqueFd epoll_{::epoll_create1(EPOLL_CLOEXEC)};
  UniqueFd own_;
  UniqueFd other_;
  Mapping picks_;
  Mapping taken_;
  std::unique_ptr<Acceptor> acceptor_;
};

TEST_F(SlotAcceptor, lets_go_of_an_adopted_queue_although_it_was_told_of_the_socket_again) {
  tell(Act::adopt, with(other_));
  tell(Act::siblings, with(other_));
  const auto client = connect_to(local_address(other_.get()).value());
  EXPECT_TRUE(readable());
  tell(Act::disown, nothing_);
  EXPECT_FALSE(readable());
  acceptor_->leave();
}

TEST_F(SlotAcceptor, takes_from_a_busy_sibling_what_the_program_picked_for_it) {
  have_program();
  const auto client = connect_to(local_address(other_.get()).value());
  EXPECT_FALSE(takes_one());
  ++picks(1);
  EXPECT_TRUE(takes_one());
  EXPECT_EQ(taken(1), 1u);
}

/// Nonsense that somebody has written: so many picks would have to be made before anybody looked there again.
TEST_F(SlotAcceptor, takes_from_a_busy_sibling_although_more_is_said_to_be_taken_than_was_picked) {
  have_program();
  picks(1) = 10;
  taken(1) = 1'000'000;
  EXPECT_FALSE(takes_one());
  const auto client = connect_to(local_address(other_.get()).value());
  ++picks(1);
  EXPECT_TRUE(takes_one());
}

TEST_F(SlotAcceptor, who_finds_its_queue_empty_sets_right_that_more_was_taken_than_picked) {
  have_program();
  picks(0) = 10;
  taken(0) = 1'000'000;
  EXPECT_FALSE(takes_one());
  EXPECT_EQ(taken(0), 10u);
}

/// The second time it has just looked, and goes by what it saw then: what waits at home now is younger.
TEST_F(SlotAcceptor, takes_one_elsewhere_before_its_own_as_soon_as_that_has_waited_clearly_longer) {
  have_program();
  const auto first = connect_to(local_address(own_.get()).value());
  const auto second = connect_to(local_address(own_.get()).value());
  const auto elsewhere = connect_to(local_address(other_.get()).value());
  pick(0, 100'000);
  pick(1, 100'500);
  EXPECT_TRUE(takes_one());
  EXPECT_EQ(taken(0), 1u);
  pick(0, 0);
  EXPECT_TRUE(takes_one());
  EXPECT_EQ(taken(1), 1u);
  EXPECT_EQ(taken(0), 1u);
}

TEST_F(SlotAcceptor, does_not_ask_the_kernel_for_more_than_was_picked_when_it_looks_elsewhere) {
  have_program();
  const auto first = connect_to(local_address(own_.get()).value());
  const auto second = connect_to(local_address(own_.get()).value());
  picks(0) = 1;
  EXPECT_TRUE(takes_one());
  EXPECT_FALSE(takes_elsewhere());
  EXPECT_TRUE(takes_one());
}

TEST_F(SlotAcceptor, takes_its_own_when_one_was_picked_before_it_looks_elsewhere) {
  have_program();
  const auto client = connect_to(local_address(own_.get()).value());
  picks(0) = 1;
  EXPECT_TRUE(takes_elsewhere());
}

TEST_F(SlotAcceptor, settles_what_siblings_have_taken_when_it_looks_elsewhere) {
  have_program();
  picks(0) = taken(0) = 3;
  EXPECT_FALSE(takes_elsewhere());
  EXPECT_EQ(atomic(place_.page().cells[0].settled).load(), 3u);
}

}  // namespace
}  // namespace lb::test
