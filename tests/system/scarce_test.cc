// SPDX-License-Identifier: MIT
// Round-robin where descriptors run out: in a worker, in the primary, on their way.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "contract.hh"
#include "isolation.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

class Scarce : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(every, Scarce, testing::ValuesIn(kRoundRobins), policy_test_name);

rlim_t descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

TEST_P(Scarce, N21_connections_that_every_worker_refuses_wait_for_one_that_takes_them) {
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
      "all to be back", [&] { return cluster.endpoint().queued + cluster.untaken() == 10; }, &crowd));
  for (const uint32_t id : {1, 2}) limit_descriptors(cluster.worker(id).pid, 1024);
  EXPECT_TRUE(cluster.wait_finished(crowd));
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(cluster.board().served[i], i < 2 ? 2u : 1u) << "number " << i;
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(Scarce, N21_batch_that_does_not_fit_a_workers_descriptor_table_is_taken_in_part) {
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
    board.flag[1] = 1;
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
      [&] { return cluster.untaken() + cluster.endpoint().queued == kHanded && cluster.untaken() != 0; }, &crowd));
  const auto handed = cluster.untaken();
  take.open();
  EXPECT_TRUE(cluster.wait_until(
      "it to take what fits", [&] { return board.flag[1] == 1; }, &crowd));
  serve.open();  // not before: the other would be idle, and what is on its way to this one recalled for it
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(board.flag[0], std::min(handed, 3u));
  EXPECT_EQ(board.not_once(kHanded), 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(Scarce, primary_without_free_descriptors_leaves_connections_in_the_kernels_queue_and_recovers) {
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

class ScarceEverywhere : public PolicyTest {};
LB_FOR_EVERY_POLICY(ScarceEverywhere);

TEST_P(ScarceEverywhere, primary_without_free_descriptors_replaces_a_killed_worker_once_it_has_some) {
  const auto before = descriptor_limit();
  limit_descriptors(::getpid(), 256);
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  std::vector<UniqueFd> all;
  for (int fd = ::dup(STDERR_FILENO); fd >= 0; fd = ::dup(STDERR_FILENO)) all.emplace_back(fd);
  ::kill(cluster.worker(1).pid, SIGKILL);
  EXPECT_TRUE(cluster.wait_exit(1));
  while (!all.empty() && cluster.event(Event::Kind::spawned, 3) == nullptr) {
    for (int i = 0; i < 4 && !all.empty(); ++i) all.pop_back();  // what the worker's exit gave back is taken first
    ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
    if (all.size() < 100) all.clear();
  }
  all.clear();  // it is to have some to listen with, too
  EXPECT_TRUE(cluster.wait_until("a replacement that listens", [&] { return cluster.count(Event::Kind::listening) == 3; }));
  cluster.expect_clean_shutdown();
  limit_descriptors(::getpid(), before);
}

/// A user whom nobody else is, without privileges: the kernel counts descriptors in flight by user.
bool become_somebody_else() {
  constexpr uid_t kNobodyElse = 54321;
  return ::setresgid(kNobodyElse, kNobodyElse, kNobodyElse) == 0 && ::setresuid(kNobodyElse, kNobodyElse, kNobodyElse) == 0 &&
         ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;  // /proc/self stays its own
}

TEST_P(Scarce, too_many_descriptors_in_flight_hold_connections_up_and_lose_none) {
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
