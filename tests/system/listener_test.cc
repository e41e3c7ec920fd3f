// SPDX-License-Identifier: MIT
// A Listener is the same type under every policy, whatever stands behind it.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "contract.hh"

namespace lb::test {
namespace {

class ListenerOf : public PolicyTest {};
LB_FOR_EVERY_POLICY(ListenerOf);

TEST_P(ListenerOf, N24_every_member_does_the_same_under_every_policy) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    const auto address = listener.address();
    if (address.kind() != Endpoint::Kind::tcp || address.port() == 0) return board.fail("address");
    if (listener.fd() < 0 || listener.fd() != listener.fd()) return board.fail("fd");
    if (auto none = listener.try_accept(); !none || *none) return board.fail("try_accept without a client");
    if (listener.drained() || listener.error().code != 0) return board.fail("drained or failed");
    const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!listener.watch(epoll.get(), 7)) return board.fail("watch");

    board.flag[0] = 1;  // now a client connects
    epoll_event event{};
    while (::epoll_wait(epoll.get(), &event, 1, -1) < 0) {
    }
    if (event.data.u64 != 7) return board.fail("data");
    pollfd ready{.fd = listener.fd(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, 0) != 1) return board.fail("fd() is not readable");
    auto connection = listener.try_accept();
    if (!connection || !*connection) return board.fail("try_accept");
    say_hello(worker, (*connection)->fd());
    (*connection)->close();

    auto moved = std::move(listener);
    moved.close();
    moved.close();
    if (!(moved.address() == address)) return board.fail("address after close");
    if (moved.accept() || !moved.drained()) return board.fail("accept after close");
    if (auto none = moved.try_accept(); !none || *none) return board.fail("try_accept after close");
    if (moved.watch(epoll.get(), 8).error().code != EBADF) return board.fail("watch after close");
    if (moved.fd() != -1) return board.fail("fd after close");
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_until("the worker", [&] { return board.flag[0] == 1; }));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_until(
      "it to leave", [&] { return cluster.event(Event::Kind::exit, 1) != nullptr; }, &crowd));
  EXPECT_EQ(board.failures, 0u) << board.text.data();
  EXPECT_TRUE(crowd[0].greeted());
  EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->exit_code, 0);
}

TEST_P(ListenerOf, N25_endpoint_lives_as_long_as_any_worker_has_a_listener_there_and_no_longer) {
  const Gate close[2];
  TestCluster cluster(policy());
  auto& board = cluster.board();
  for (const Gate& gate : close) {
    ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
      auto listener = worker.listen(kAnyPort).value();
      gate.wait();
      listener.close();
      ++board.flag[0];
      while (!worker.draining()) {
        pollfd ready{.fd = worker.fd(), .events = POLLIN, .revents = 0};
        ::poll(&ready, 1, -1);
        if (!worker.dispatch()) return board.fail("dispatch");
      }
      return 0;
    }));
  }
  const auto address = cluster.address();
  EXPECT_EQ(cluster->status().endpoints.size(), 1u);
  close[0].open();
  ASSERT_TRUE(cluster.wait_until("the first to close", [&] { return cluster.endpoint().workers.size() == 1; }));
  EXPECT_EQ(cluster.endpoint().workers[0].worker, 2u);
  close[1].open();
  ASSERT_TRUE(cluster.wait_until("the endpoint to go", [&] { return cluster->status().endpoints.empty(); }));
  // A worker may not have come yet to a sibling's socket that is on its way to it: until then, clients are reset.
  Crowd crowd;
  EXPECT_TRUE(cluster.wait_until(
      "a client to be refused",
      [&] {
        if (crowd.count(Client::State::lost) == crowd.size()) crowd.connect(address, 1);
        return crowd.count(Client::State::refused) == 1;
      },
      &crowd));
  cluster.expect_clean_shutdown();
}

/// The inodes of this process's listening sockets on the port.
std::set<ino_t> listening_sockets(in_port_t port) {
  std::set<ino_t> found;
  for (int fd = 3; fd < 1024; ++fd) {
    int listens = 0;
    socklen_t length = sizeof listens;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0 || listens == 0) continue;
    sockaddr_storage address{};
    length = sizeof address;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
    const auto bound = Endpoint::from_sockaddr(reinterpret_cast<sockaddr*>(&address), length);
    struct stat about {};
    if (bound && bound->port() == port && ::fstat(fd, &about) == 0) found.insert(about.st_ino);
  }
  return found;
}

TEST(SharedListener, N17_primary_binds_and_every_worker_listens_on_the_same_socket) {
  TestCluster cluster("shared");
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(3, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    const auto sockets = listening_sockets(listener.address().port());
    board.flag[worker.id()] = sockets.size() == 1 ? static_cast<uint32_t>(*sockets.begin()) : 0;
    return answer_all(worker, listener, Style::blocking, board);
  }));
  ASSERT_TRUE(cluster.wait_until("all three", [&] { return board.flag[1] != 0 && board.flag[2] != 0 && board.flag[3] != 0; }));
  EXPECT_EQ(board.flag[1], board.flag[2]);
  EXPECT_EQ(board.flag[1], board.flag[3]);
  const auto own = listening_sockets(cluster.address().port());
  EXPECT_EQ(own.size(), 1u) << "the primary keeps the socket";
  EXPECT_EQ(own.count(board.flag[1]), 1u);
  cluster.expect_clean_shutdown();
}

TEST(SharedListener, N18_workers_that_serve_at_once_all_get_their_share_of_what_is_queued) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(4, Style::blocking));
  // Over a few loads: a worker that the machine gives no CPU for one of them has had nothing to serve with.
  constexpr unsigned kLoads = 10;
  std::vector<unsigned> served(5);
  for (unsigned loads = 1; loads <= kLoads; ++loads) {
    const Load load({.to = cluster.address(), .count = 1000, .at_once = 8});
    ASSERT_TRUE(cluster.wait_over(load));
    ASSERT_EQ(load.answered(), 1000u) << load.describe();
    for (uint32_t id = 1; id <= 4; ++id) served[id] += load.per_worker()[id];
    if (*std::min_element(served.begin() + 1, served.end()) >= 100 * loads) break;
    ASSERT_LT(loads, kLoads) << shares(served);
  }
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
