// SPDX-License-Identifier: MIT
// fd:NAME: sockets that systemd passed (sd_listen_fds(3)).
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "contract.hh"
#include "isolation.hh"
#include "refusal.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

/// Puts sockets where systemd would, and takes them away again. For use in a child.
class Activation {
 public:
  Activation(std::vector<UniqueFd> sockets, const char* names, pid_t pid = ::getpid()) : count_(sockets.size()) {
    for (auto& socket : sockets) {
      while (socket.get() < kFirst + static_cast<int>(count_)) socket.reset(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 100));
    }
    for (size_t i = 0; i < count_; ++i) ::dup2(sockets[i].get(), kFirst + static_cast<int>(i));  // not close-on-exec
    ::setenv("LISTEN_PID", std::to_string(pid).c_str(), 1);
    ::setenv("LISTEN_FDS", std::to_string(count_).c_str(), 1);
    if (names != nullptr) ::setenv("LISTEN_FDNAMES", names, 1);
  }
  ~Activation() {
    for (size_t i = 0; i < count_; ++i) ::close(kFirst + static_cast<int>(i));
  }

 private:
  static constexpr int kFirst = 3;
  size_t count_;
};

std::vector<UniqueFd> sockets(size_t count) {
  std::vector<UniqueFd> made;
  for (size_t i = 0; i < count; ++i) made.push_back(make_socket(kAnyPort));
  return made;
}

bool no_variable_is_left() {
  return std::getenv("LISTEN_PID") == nullptr && std::getenv("LISTEN_FDS") == nullptr && std::getenv("LISTEN_FDNAMES") == nullptr;
}

class Systemd : public PolicyTest {};
LB_FOR_EVERY_POLICY(Systemd);

TEST_P(Systemd, N13_socket_that_systemd_passed_is_served_by_name_and_by_number) {
  in_child([&] {
    const Activation systemd(sockets(2), "http:admin");
    const Endpoint http = address_of(3);
    const Endpoint admin = address_of(4);
    TestCluster cluster(policy());
    EXPECT_TRUE(no_variable_is_left()) << "children would be misled";
    for (const int fd : {3, 4}) EXPECT_EQ(::fcntl(fd, F_GETFD), FD_CLOEXEC);
    ASSERT_TRUE(cluster.start(2, Style::blocking, "fd:http"));
    EXPECT_EQ(cluster.address(), http);
    cluster.expect_serves(20);
    expect_contains(refusal(cluster, "fd:https", ENOENT), "http, admin");
    ASSERT_TRUE(cluster.start(1, Style::blocking, "fd:4"));
    EXPECT_EQ(cluster->status().endpoints.at(1).address, admin);
    cluster.expect_clean_shutdown();
    for (const int fd : {3, 4}) EXPECT_TRUE(is_listening(fd)) << "they stay open for another try";
  });
}

TEST_P(Systemd, N13_worker_holds_no_copy_of_what_systemd_passed_but_of_what_it_listens_on) {
  in_child([&] {
    const Activation systemd(sockets(2), nullptr);
    const Endpoint second = address_of(4);
    TestCluster cluster(policy());
    auto& board = cluster.board();
    ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
      auto listener = worker.listen("fd:3").value();
      board.flag[1] = static_cast<uint32_t>(listening_at(listener.address()).size());
      board.flag[2] = static_cast<uint32_t>(listening_at(second).size());
      return answer_all(worker, listener, Style::blocking, board);
    }));
    cluster.expect_serves(20);
    EXPECT_EQ(board.flag[1], cluster.endpoint().effective.backend == Backend::shared ? 1u : 0u);
    EXPECT_EQ(board.flag[2], 0u);
    cluster.expect_clean_shutdown();
  });
}

TEST(SystemdVariables, N13_those_of_another_process_count_for_nothing_and_are_removed) {
  in_child([] {
    const Activation systemd(sockets(1), "http", ::getppid());
    TestCluster cluster("auto");
    EXPECT_TRUE(no_variable_is_left());
    EXPECT_EQ(::fcntl(3, F_GETFD), 0) << "the descriptor is none of our business";
    refusal(cluster, "fd:http", ENOENT);
    cluster.expect_clean_shutdown();
  });
}

TEST(SystemdVariables, N13_name_of_several_sockets_is_an_error_that_asks_for_the_number) {
  in_child([] {
    const Activation systemd(sockets(2), "web:web");
    TestCluster cluster("auto");
    expect_contains(refusal(cluster, "fd:web", EINVAL), "by number, from fd:3 on");
    ASSERT_TRUE(cluster.start(1, Style::blocking, "fd:4"));
    cluster.expect_clean_shutdown();
  });
}

TEST(SystemdVariables, N13_nonsense_is_an_error_of_the_cluster) {
  struct Case {
    const char* pid;
    const char* fds;
    const char* names;
    int code;
  };
  for (const Case& wrong :
       {Case{"x", "1", nullptr, EINVAL}, Case{nullptr, "x", nullptr, EINVAL}, Case{nullptr, "0", nullptr, EINVAL},
        Case{nullptr, "-1", nullptr, EINVAL}, Case{nullptr, "1", "a:b", EINVAL}, Case{nullptr, "2000", nullptr, EBADF}}) {
    in_child([&] {
      const Activation systemd(sockets(1), wrong.names);
      if (wrong.pid != nullptr) ::setenv("LISTEN_PID", wrong.pid, 1);
      ::setenv("LISTEN_FDS", wrong.fds, 1);
      const auto cluster = Cluster::create({});
      ASSERT_FALSE(cluster) << wrong.fds;
      EXPECT_EQ(cluster.error().code, wrong.code) << cluster.error().message();
      expect_contains(cluster.error().message(), "LISTEN_");
      EXPECT_TRUE(no_variable_is_left());
    });
  }
}

}  // namespace
}  // namespace lb::test
