// SPDX-License-Identifier: MIT
// What a worker inherits: what it needs, and nothing else.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "contract.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

/// What a worker finds in its descriptor table beyond what the test's process had before the cluster.
struct Table {
  unsigned all = 0;
  unsigned control = 0;         ///< SOCK_SEQPACKET: channels
  unsigned listening_here = 0;  ///< listening, at the endpoint that it asked for
  unsigned listening_elsewhere = 0;
  unsigned other_sockets = 0;
  unsigned events = 0;  ///< eventfd, epoll
  unsigned unexpected = 0;
  unsigned not_close_on_exec = 0;
};

std::string target_of(int fd) {
  char target[256] = {};
  (void)!::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof target - 1);
  return target;
}

void count_socket(int fd, const Endpoint& own, Table& table) {
  if (option_of(fd, SOL_SOCKET, SO_TYPE) == SOCK_SEQPACKET)
    ++table.control;
  else if (!is_listening(fd))
    ++table.other_sockets;
  else
    ++(address_of(fd) == own ? table.listening_here : table.listening_elsewhere);
}

Table look(const std::vector<int>& before, const Endpoint& own, std::string& names) {
  Table table;
  for (const int fd : open_descriptors()) {
    if (std::find(before.begin(), before.end(), fd) != before.end()) continue;
    const auto target = target_of(fd);
    if (target.rfind("/memfd:shared with a test", 0) == 0) continue;  // the test's own, kept for workers that are programs
    ++table.all;
    struct stat about {};
    ::fstat(fd, &about);
    names += target + " ";
    if ((::fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) ++table.not_close_on_exec;
    if (S_ISSOCK(about.st_mode))
      count_socket(fd, own, table);
    else
      ++(target == "anon_inode:[eventfd]" || target == "anon_inode:[eventpoll]" ? table.events : table.unexpected);
  }
  return table;
}

class Descriptors : public PolicyTest {};
LB_FOR_EVERY_POLICY(Descriptors);

TEST_P(Descriptors, N37_worker_holds_its_channel_its_endpoints_sockets_and_nothing_else) {
  const Folder folder;
  const auto before = open_descriptors();
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, Style::blocking, "tcp://127.0.0.2:0"));
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, board, "unix:" + folder.path("other"))));
  Shared<Table> table;
  // The fourth worker: forked while the primary holds the channels of three others and two endpoints.
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() == 4) {
      std::string names;
      *table = look(before, listener.address(), names);
      std::snprintf(board.text.data(), board.text.size(), "%s", names.c_str());
      board.flag[0] = 1;
    }
    return answer_all(worker, listener, Style::blocking, board);
  }));
  ASSERT_TRUE(cluster.wait_until("the worker to look", [&] { return board.flag[0] == 1; }));
  SCOPED_TRACE(board.text.data());
  const auto backend = Policy::parse(policy())->backend;
  EXPECT_EQ(table->unexpected, 0u);
  EXPECT_EQ(table->not_close_on_exec, 0u);
  EXPECT_EQ(table->other_sockets, 0u);
  EXPECT_EQ(table->listening_elsewhere, 0u) << "sockets of endpoints that it did not ask for";
  EXPECT_EQ(table->control, backend == Backend::round_robin ? 3u : 2u) << "its own: control, messages, hand-offs; no sibling's";
  // reuseport: those of its siblings come once it is ready, to take from; it has not looked yet.
  EXPECT_LE(table->listening_here, backend == Backend::round_robin ? 0u : 1u);
  EXPECT_EQ(table->events, 4u) << "doorbell, SIGTERM, its events, the listener's epoll";
  cluster.expect_clean_shutdown();
}

TEST_P(Descriptors, N37_worker_that_does_not_listen_holds_no_listening_socket) {
  const auto before = open_descriptors();
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  Shared<Table> table;
  ASSERT_TRUE(cluster->spawn([&](Worker&) {
    std::string names;
    *table = look(before, {}, names);
    std::snprintf(board.text.data(), board.text.size(), "%s", names.c_str());
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_exit(3));
  SCOPED_TRACE(board.text.data());
  EXPECT_EQ(table->control, 2u);
  EXPECT_EQ(table->events, 3u);
  EXPECT_EQ(table->all, 5u);
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
