// SPDX-License-Identifier: MIT
// What the primary tells workers about queues that nobody comes for, and how often.
#include <gtest/gtest.h>

#include "surroundings.hh"

namespace lb::test {
namespace {

constexpr int kSweeps = 6;

/// Of workers 1, 2, ... in slots 0, 1, ...; those that are busy have a connection in hand, and their heartbeat stands still.
class Rescued : public testing::Test {
 protected:
  void open(const char* policy, uint32_t workers) {
    ListenRequest request{Endpoint::parse("tcp://127.0.0.1:0").value(), {}, 0, Policy::parse(policy).value()};
    backend_ = make_reuseport_backend(around_.get(), request).value();
    for (uint32_t slot = 0; slot < workers; ++slot) start(slot, slot + 1);
  }
  void open_for_datagrams(uint32_t workers) {
    ListenRequest request{Endpoint::parse("udp://127.0.0.1:0").value(), {}, 0, Policy::parse("reuseport:hash").value()};
    backend_ = make_datagram_backend(around_.get(), request).value();
    for (uint32_t slot = 0; slot < workers; ++slot) start(slot, slot + 1);
  }
  void start(uint32_t slot, uint32_t worker) {
    atomic(around_.page(slot).heartbeat).store(1);
    ASSERT_TRUE(backend_->grant({worker, slot}));
    backend_->ready({worker, slot});
  }
  void be_busy(uint32_t slot) { atomic(around_.page(slot).in_flight).store(1); }
  /// One that waited for it alone.
  void serve_another(uint32_t slot) {
    around_.beat(slot);
    atomic(around_.page(slot).cells[0].accepted).fetch_add(1);
  }
  bool waits_at(uint32_t slot) const {
    EndpointStatus status;
    backend_->describe(status);
    return std::any_of(status.workers.begin(), status.workers.end(),
                       [=](const WorkerLoad& load) { return load.slot == slot && load.backlog != 0; });
  }
  /// By the kernel's hash.
  void connect_until_queued_at(uint32_t slot) {
    while (!waits_at(slot)) clients_.push_back(connect_to(backend_->address().value()));
  }
  void send_until_queued_at(uint32_t slot) {
    do {
      clients_.push_back(connect_to(backend_->address().value(), SOCK_DGRAM));
      ASSERT_EQ(::send(clients_.back().get(), "x", 1, 0), 1);
    } while (!waits_at(slot));
  }

  TestSurroundings around_{12};
  std::unique_ptr<EndpointBackend> backend_;
  std::vector<UniqueFd> clients_;
};

TEST_F(Rescued, busy_worker_is_nudged_once_until_it_shows_itself) {
  open("reuseport", 1);
  be_busy(0);
  connect_until_queued_at(0);
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(1, Act::nudge), 1) << "in so many sweeps: " << kSweeps;
  around_.beat(0);
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(1, Act::nudge), 2);
}

TEST_F(Rescued, nudge_for_which_the_channel_has_no_room_follows_later) {
  open("reuseport", 1);
  be_busy(0);
  around_.deaf = {1};
  connect_until_queued_at(0);
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(1, Act::nudge), 0);
  around_.deaf.clear();
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(1, Act::nudge), 1);
}

/// The dead worker's queue goes to the first of the idle, which then hangs too.
TEST_F(Rescued, adopter_that_does_not_come_is_told_to_let_go_and_is_not_asked_again) {
  open("reuseport", 3);
  connect_until_queued_at(0);
  backend_->left({1, 0});
  EXPECT_EQ(around_.count(2, Act::adopt), 1);
  be_busy(1);
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(2, Act::disown), 1);
  EXPECT_GE(around_.count(3, Act::adopt), 1);
  be_busy(2);
  drive(*backend_, 3 * kSweeps);
  EXPECT_EQ(around_.count(2, Act::adopt), 1);
  EXPECT_EQ(around_.count(2, Act::disown), 1);
}

TEST_F(Rescued, queue_goes_to_the_next_when_the_first_has_no_room_for_the_word) {
  open("reuseport", 3);
  around_.deaf = {2};
  backend_->left({1, 0});
  EXPECT_EQ(around_.count(3, Act::adopt), 1);
}

TEST_F(Rescued, word_to_let_go_that_finds_no_room_follows_later) {
  open("reuseport", 3);
  backend_->left({1, 0});
  ASSERT_EQ(around_.count(2, Act::adopt), 1);
  around_.deaf = {2};
  start(0, 4);
  drive(*backend_, 1);
  around_.deaf.clear();
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(2, Act::disown), 1);
}

/// It comes for others, but that queue stays as it is: its descriptor table was full when it was told.
TEST_F(Rescued, adopter_that_leaves_the_queue_as_it_is_is_relieved_by_another) {
  open("reuseport:hash", 3);
  connect_until_queued_at(0);
  backend_->left({1, 0});
  ASSERT_EQ(around_.count(2, Act::adopt), 1);
  for (int i = 0; i < kSweeps; ++i) {
    serve_another(1);
    serve_another(2);
    drive(*backend_, 1);
  }
  EXPECT_GE(around_.count(3, Act::adopt), 1);
  EXPECT_GE(around_.count(2, Act::disown), 1);
}

TEST_F(Rescued, worker_is_told_of_all_its_siblings_at_once_and_of_a_later_one_alone) {
  open("reuseport", 3);
  drive(*backend_, 1);
  for (uint32_t worker = 1; worker <= 2; ++worker) {
    EXPECT_EQ(around_.count(worker, Act::siblings), worker == 2 ? 2 : 1) << worker << ": slots before its own, and behind it";
  }
  around_.said.clear();
  start(3, 4);
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(1, Act::siblings), 1);
  EXPECT_EQ(around_.count(4, Act::siblings), 1);
  EXPECT_EQ(around_.said.front().slot, 3u) << "of the new one alone";
}

TEST_F(Rescued, siblings_for_which_the_channel_has_no_room_follow_later) {
  open("reuseport", 2);
  around_.deaf = {1};
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(1, Act::siblings), 0);
  EXPECT_EQ(around_.count(2, Act::siblings), 1);
  around_.deaf.clear();
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(1, Act::siblings), 1);
  EXPECT_EQ(around_.count(2, Act::siblings), 1) << "has had it";
}

TEST_F(Rescued, worker_that_reads_nothing_is_told_of_few_siblings_until_it_does) {
  open("reuseport", 2);
  for (uint32_t slot = 2; slot < 12; ++slot) {
    start(slot, slot + 1);
    backend_->turn();
    for (uint32_t other = 1; other < slot; ++other) around_.beat(other);
  }
  EXPECT_EQ(around_.count(1, Act::siblings), 4);
  EXPECT_EQ(around_.count(2, Act::siblings), 11) << "of slot 0 and what is behind its own at first, then of one at a time";
  around_.said.clear();
  around_.beat(0);
  backend_->turn();
  ASSERT_EQ(around_.count(1, Act::siblings), 1);
  EXPECT_EQ(around_.said.front().slot, 6u) << "of all that have come since";
}

TEST_F(Rescued, worker_in_a_slot_that_is_used_again_is_told_of_its_siblings_anew) {
  open("reuseport", 2);
  drive(*backend_, 1);
  backend_->left({1, 0});
  start(0, 3);
  drive(*backend_, 1);
  EXPECT_EQ(around_.count(3, Act::siblings), 1);
  EXPECT_EQ(around_.count(2, Act::siblings), 1) << "knows that socket";
}

TEST_F(Rescued, nobody_is_told_of_siblings_whom_nobody_takes_from) {
  open("reuseport:hash", 2);
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(1, Act::siblings), 0);
  EXPECT_EQ(around_.count(2, Act::siblings), 0);
}

TEST_F(Rescued, adopter_of_datagrams_that_leaves_them_is_relieved_by_another) {
  open_for_datagrams(3);
  send_until_queued_at(0);
  backend_->left({1, 0});
  ASSERT_EQ(around_.count(2, Act::adopt), 1);
  for (int i = 0; i < kSweeps; ++i) {
    serve_another(1);
    serve_another(2);
    drive(*backend_, 1);
  }
  EXPECT_GE(around_.count(3, Act::adopt), 1);
}

TEST_F(Rescued, only_adopter_of_datagrams_is_told_again_when_it_has_shown_itself) {
  open_for_datagrams(2);
  send_until_queued_at(0);
  backend_->left({1, 0});
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(2, Act::adopt), 1);
  serve_another(1);
  drive(*backend_, kSweeps);
  EXPECT_EQ(around_.count(2, Act::adopt), 2);
}

}  // namespace
}  // namespace lb::test
