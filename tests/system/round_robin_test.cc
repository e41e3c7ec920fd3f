// SPDX-License-Identifier: MIT
// Round-robin's hard cases: the queue, the window, refusals, workers that go between a hand-off and its taking, limits of the
// kernel.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <set>
#include <thread>

#include "contract.hh"
#include "isolation.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

class HandOff : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(every, HandOff, testing::ValuesIn(kRoundRobins), policy_test_name);

/// Says that it is ready to be handed connections, as a waiting worker does, and takes none until the gate opens.
void pretend_to_wait(Listener& listener, const Gate& gate) {
  (void)listener.fd();
  gate.wait();
}

uint32_t untaken(TestCluster& cluster) {
  uint32_t sum = 0;
  for (const auto& load : cluster.endpoint().workers) sum += load.backlog;
  return sum;
}

TEST_P(HandOff, N19_free_workers_are_served_in_turn_and_who_finds_none_free_waits_in_order) {
  TestCluster cluster(policy(), {.window = 1});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(cluster.start(1, Style::blocking));  // they queue up in this order
  Crowd crowd;
  for (uint32_t i = 0; i < 3; ++i) {
    crowd.connect(cluster.address(), 1);
    ASSERT_TRUE(cluster.wait_greeted(crowd));
    EXPECT_EQ(crowd[i].worker(), i + 1) << "the free list is in order";
  }
  for (uint32_t i = 3; i < 6; ++i) {
    crowd.connect(cluster.address(), 1);
    ASSERT_TRUE(cluster.wait_until(
        "it to be queued", [&] { return cluster.endpoint().queued == i - 2; }, &crowd));
  }
  EXPECT_EQ(crowd.greeted(), 3u);
  // Who becomes free gets the oldest.
  for (const size_t first : {1, 0, 2}) {
    const size_t next = 6 - static_cast<size_t>(cluster.endpoint().queued);
    crowd[first].ask();
    ASSERT_TRUE(cluster.wait_until(
        "the oldest to be served", [&] { return crowd[next].greeted(); }, &crowd));
    EXPECT_EQ(crowd[next].worker(), crowd[first].worker());
  }
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(HandOff, N20_worker_is_handed_the_next_when_it_has_taken_the_last) {
  const Gate take;
  TestCluster cluster(policy(), {.window = 1});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    std::vector<Connection> held;
    pretend_to_wait(listener, take);
    while (held.size() < 3) {
      auto connection = listener.try_accept();
      if (!connection || !*connection) return board.fail("nothing was handed");
      held.push_back(std::move(**connection));
      auto none = listener.try_accept();  // its window was 1
      if (!none) return board.fail("try_accept");
      if (*none) ++board.flag[0];
      ++board.flag[1];
      take.wait();
    }
    for (auto& connection : held) say_hello(worker, connection.fd());
    held.clear();
    return answer_all(worker, listener, Style::watch, board);
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 3);
  for (uint32_t taken = 0; taken < 3; ++taken) {
    ASSERT_TRUE(cluster.wait_until(
        "one to be handed and the rest to wait",
        [&] { return board.flag[1] == taken && untaken(cluster) == 1 && cluster.endpoint().queued == 2 - taken; }, &crowd));
    take.open();
  }
  ASSERT_TRUE(cluster.wait_until(
      "all to be taken", [&] { return board.flag[1] == 3 && cluster.endpoint().queued == 0; }, &crowd));
  take.open();
  EXPECT_TRUE(cluster.wait_until(
      "the clients to be told", [&] { return crowd.all(Client::State::lost) && crowd.greeted() == 3; }, &crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(HandOff, N21_what_a_closing_worker_has_in_hand_goes_to_another) {
  const Gate close;
  const Gate serve;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() == 2) {
      serve.wait();  // until then it does not ask for any
      return answer_all(worker, listener, Style::blocking, board);
    }
    pretend_to_wait(listener, close);
    // Some are in its hands, the others of the packet are refused.
    auto connection = listener.try_accept();
    if (!connection || !*connection) return board.fail("nothing was handed");
    ++board.accepted[worker.id()];
    listener.close();
    ::fcntl((*connection)->fd(), F_SETFL, 0);
    answer_one(worker, **connection, board);
    return 0;
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "a batch to be handed over", [&] { return untaken(cluster) >= 1 && untaken(cluster) + cluster.endpoint().queued == 20; },
      &crowd));
  close.open();
  ASSERT_TRUE(cluster.wait_until(
      "the primary to have the others back", [&] { return cluster.endpoint().queued == 19 && untaken(cluster) == 0; }, &crowd));
  serve.open();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(board.accepted[1], 1u);
  EXPECT_EQ(board.accepted[2], 19u);
  EXPECT_EQ(board.not_once(20), 0u);
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  cluster.expect_clean_shutdown();
}

/// Sets how many descriptors the process may have, more or fewer than it has now.
void limit_descriptors(pid_t pid, rlim_t count) {
  rlimit limit{};
  ASSERT_EQ(::prlimit(pid, RLIMIT_NOFILE, nullptr, &limit), 0);
  limit.rlim_cur = count;
  ASSERT_EQ(::prlimit(pid, RLIMIT_NOFILE, &limit, nullptr), 0);
}

rlim_t descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

TEST_P(HandOff, N21_connections_that_every_worker_refuses_wait_for_one_that_takes_them) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd first;  // each serves once: a sanitizer asks for descriptors when it sees a type for the first time
  first.connect(cluster.address(), 2);
  ASSERT_TRUE(cluster.wait_greeted(first));
  first.ask_all();
  ASSERT_TRUE(cluster.wait_finished(first));
  for (const uint32_t id : {1, 2}) limit_descriptors(cluster.worker(id).pid, 3);
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  const auto picks = [&] {
    uint64_t sum = 0;
    for (const auto& load : cluster.endpoint().workers) sum += load.picks;
    return sum;
  };
  const auto before = picks();
  ASSERT_TRUE(cluster.wait_until(
      "both to refuse several times", [&] { return picks() >= before + 40; }, &crowd));
  EXPECT_EQ(crowd.greeted(), 0u);
  EXPECT_TRUE(cluster.wait_until(
      "all to be back", [&] { return cluster.endpoint().queued + untaken(cluster) == 10; }, &crowd));
  for (const uint32_t id : {1, 2}) limit_descriptors(cluster.worker(id).pid, 1024);
  EXPECT_TRUE(cluster.wait_finished(crowd));
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(cluster.board().served[i], i < 2 ? 2u : 1u) << "number " << i;
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(HandOff, N21_batch_that_does_not_fit_a_workers_descriptor_table_is_taken_in_part) {
  const Gate take;
  const Gate serve;
  constexpr size_t kHanded = 32;
  TestCluster cluster(policy(), {.window = kHanded});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() == 2) {
      serve.wait();
      return answer_all(worker, listener, Style::blocking, board);
    }
    pretend_to_wait(listener, take);
    const int next = ::dup(STDERR_FILENO);  // the lowest free number: room for three more
    ::close(next);
    limit_descriptors(::getpid(), static_cast<rlim_t>(next) + 3);
    std::vector<Connection> held;
    while (auto connection = listener.try_accept().value()) held.push_back(std::move(*connection));
    limit_descriptors(::getpid(), 1024);
    board.flag[0] = static_cast<uint32_t>(held.size());
    listener.close();
    for (const auto& connection : held) {
      ::fcntl(connection.fd(), F_SETFL, 0);
      answer_one(worker, connection, board);
    }
    return 0;
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), kHanded);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "all to be in the primary's hands or the worker's",
      [&] { return untaken(cluster) + cluster.endpoint().queued == kHanded && untaken(cluster) != 0; }, &crowd));
  const auto handed = untaken(cluster);
  take.open();
  serve.open();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(board.flag[0], std::min(handed, 3u));
  EXPECT_EQ(board.not_once(kHanded), 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(HandOff, N22_connections_sent_to_a_worker_that_is_killed_before_it_takes_them_are_served_by_another) {
  const Gate never;
  TestCluster cluster(policy(), {.respawn = false});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    pretend_to_wait(listener, never);
    return 0;
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "some to be on their way", [&] { return untaken(cluster) >= 1 && untaken(cluster) + cluster.endpoint().queued == 10; },
      &crowd));
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.endpoint().queued, 10u) << "all are the primary's again";
  ASSERT_TRUE(cluster->spawn(answering(Style::blocking, board)));
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(board.not_once(10), 0u);
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  EXPECT_TRUE(cluster.shut_down());
}

TEST_P(HandOff, N22_worker_killed_with_a_packet_in_hand_loses_only_what_accept_has_yielded) {
  const Gate take;
  TestCluster cluster(policy(), {.respawn = false});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    pretend_to_wait(listener, take);
    const auto connection = listener.try_accept();
    board.flag[0] = connection && *connection ? 1 : 2;
    take.wait();
    return 0;
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 32);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "a batch to be on its way", [&] { return untaken(cluster) >= 1 && untaken(cluster) + cluster.endpoint().queued == 32; },
      &crowd));
  take.open();
  ASSERT_TRUE(cluster.wait_until(
      "the worker to take one", [&] { return board.flag[0] != 0; }, &crowd));
  ASSERT_EQ(board.flag[0], 1u);
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_exit(1));
  ASSERT_TRUE(cluster->spawn(answering(Style::blocking, board)));
  EXPECT_TRUE(cluster.wait_until(
      "all others to be served",
      [&] { return crowd.count(Client::State::finished) == 31 && crowd.count(Client::State::lost) == 1; }, &crowd));
  EXPECT_EQ(board.served_twice(), 0u);
  EXPECT_TRUE(cluster.shut_down());
}

TEST_P(HandOff, N22_connections_sent_to_a_worker_that_is_stopped_are_revoked_and_never_served_twice) {
  const Gate resumed;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() == 1) pretend_to_wait(listener, resumed);
    return answer_all(worker, listener, Style::blocking, board);
  }));
  const auto pid = cluster.worker(1).pid;
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "some to be on their way", [&] { return untaken(cluster) >= 1 && untaken(cluster) + cluster.endpoint().queued == 20; },
      &crowd));
  stop_process(pid);
  ASSERT_TRUE(cluster->spawn(answering(Style::blocking, board)));
  EXPECT_TRUE(cluster.wait_finished(crowd)) << "while worker 1 was stopped";
  ::kill(pid, SIGCONT);
  resumed.open();
  Crowd later;
  later.connect(cluster.address(), 20);
  later.ask_all();
  EXPECT_TRUE(cluster.wait_finished(later)) << "after it went on";
  for (size_t i = 0; i < 20; ++i) EXPECT_EQ(board.served[i], 2u) << "number " << i << ", once in each round";
  EXPECT_EQ(board.accepted[1] + board.accepted[2], 40u);
  cluster.expect_clean_shutdown();
}

TEST_P(HandOff, N23_age_of_the_oldest_that_waits_is_in_the_status) {
  TestCluster cluster(policy(), {.window = 1});
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  EXPECT_EQ(cluster.endpoint().queue_age_ms, 0u);
  crowd.connect(cluster.address(), 3);
  ASSERT_TRUE(cluster.wait_until(
      "it to age", [&] { return cluster.endpoint().queue_age_ms >= 20; }, &crowd));
  EXPECT_NE(cluster->status().to_string().find("(oldest "), std::string::npos);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.endpoint().queue_age_ms, 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(HandOff, primary_without_free_descriptors_leaves_connections_in_the_kernels_queue_and_recovers) {
  const auto before = descriptor_limit();
  limit_descriptors(::getpid(), 256);  // io_uring asks once, when it begins to accept
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  std::vector<UniqueFd> all;
  for (int fd = ::dup(STDERR_FILENO); fd >= 0; fd = ::dup(STDERR_FILENO)) all.emplace_back(fd);
  EXPECT_TRUE(cluster.wait_until(
      "it to run out several times", [&] { return cluster.endpoint().retried >= 3; }, &crowd));
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  EXPECT_EQ(crowd.greeted(), 0u);
  all.clear();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.board().not_once(10), 0u);
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  cluster.expect_clean_shutdown();
  limit_descriptors(::getpid(), before);
}

/// A user whom nobody else is, without privileges: the kernel counts descriptors in flight by user.
bool become_somebody_else() {
  constexpr uid_t kNobodyElse = 54321;
  return ::setresgid(kNobodyElse, kNobodyElse, kNobodyElse) == 0 && ::setresuid(kNobodyElse, kNobodyElse, kNobodyElse) == 0 &&
         ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;  // /proc/self stays its own
}

TEST_P(HandOff, too_many_descriptors_in_flight_hold_connections_up_and_lose_none) {
  in_child([&] {
    if (!become_somebody_else()) LB_SKIP_UNPRIVILEGED("needs CAP_SETUID");
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(2, Style::blocking));
    Crowd crowd;
    crowd.connect(cluster.address(), 10);
    crowd.ask_all();
    // More of this user's descriptors are on their way than one of its processes may have open.
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    UniqueFd near(ends[0]);
    UniqueFd far(ends[1]);
    const auto before = descriptor_limit();
    constexpr rlim_t kTight = 64;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec byte{control, 1};
    msghdr header{};
    header.msg_iov = &byte;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    for (rlim_t i = 0; i <= kTight; ++i) ASSERT_EQ(::sendmsg(near.get(), &header, MSG_NOSIGNAL), 1) << std::strerror(errno);
    limit_descriptors(::getpid(), kTight);
    ASSERT_EQ(::sendmsg(near.get(), &header, MSG_NOSIGNAL), -1);
    ASSERT_EQ(errno, ETOOMANYREFS);
    EXPECT_TRUE(cluster.wait_until(
        "several hand-offs to fail", [&] { return cluster.endpoint().retried >= 4 && cluster.endpoint().queued == 10; }, &crowd));
    EXPECT_EQ(crowd.greeted(), 0u);
    near.reset();
    far.reset();  // they are on their way no more
    EXPECT_TRUE(cluster.wait_finished(crowd));
    EXPECT_EQ(cluster.board().not_once(10), 0u);
    EXPECT_EQ(cluster.endpoint().lost, 0u);
    limit_descriptors(::getpid(), before);
    cluster.expect_clean_shutdown();
  });
}

}  // namespace
}  // namespace lb::test
