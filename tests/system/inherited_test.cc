// SPDX-License-Identifier: MIT
// fd:N and fd:NAME: sockets that the primary was started with.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "contract.hh"
#include "isolation.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

std::string endpoint_of(int fd) { return "fd:" + std::to_string(fd); }

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << '"' << text << "\" does not contain \"" << part << '"';
}

/// What the only worker is told when it asks for `endpoint`.
std::string refusal(TestCluster& cluster, const std::string& endpoint, int code, ListenOptions options = {}) {
  auto& board = cluster.board();
  const auto id = cluster->spawn([&](Worker& worker) {
    const auto refused = worker.listen(endpoint, options);
    std::snprintf(board.text.data(), board.text.size(), "%s", refused.error().message().c_str());
    board.flag[0] = static_cast<uint32_t>(refused.error().code);
    return 0;
  });
  EXPECT_TRUE(id && cluster.wait_exit(*id));
  EXPECT_EQ(board.flag[0], static_cast<uint32_t>(code)) << board.text.data();
  expect_contains(board.text.data(), endpoint);
  return board.text.data();
}

void serve_twenty(TestCluster& cluster) {
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
}

class InheritedEveryWay : public StyleTest {};
LB_FOR_EVERY_POLICY_AND_STYLE(InheritedEveryWay);

TEST_P(InheritedEveryWay, N13_clients_wait_in_the_socket_for_the_next_server_and_none_is_lost) {
  const UniqueFd socket = make_socket(kAnyPort, 512);
  const Endpoint address = address_of(socket.get());
  std::optional<Load> load;
  for (const uint32_t enough : {300U, 600U, 0U}) {
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(3, style(), endpoint_of(socket.get())));
    EXPECT_EQ(cluster.address(), address);
    if (!load) load.emplace(LoadPlan{.to = address, .count = 2000, .at_once = 16});
    ASSERT_TRUE(cluster.wait_until(
        "load", [&] { return enough != 0 ? load->answered() >= enough : load->over(); }, nullptr, &*load));
    cluster.expect_clean_shutdown();
    EXPECT_TRUE(is_listening(socket.get()));
  }
  EXPECT_EQ(load->answered(), 2000u) << load->describe();
}

class Inherited : public PolicyTest {};
LB_FOR_EVERY_POLICY(Inherited);

TEST_P(Inherited, N13_what_waits_when_the_shutdown_begins_is_served) {
  const UniqueFd socket = make_socket(kAnyPort, 512);
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, Style::blocking, endpoint_of(socket.get())));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 1));
  cluster->shutdown();
  ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Inherited, N13_shutdown_ends_although_clients_keep_coming) {
  const UniqueFd socket = make_socket(kAnyPort, 512);
  Crowd crowd;
  const auto keep_coming = [&] {
    for (size_t left = crowd.size() - crowd.count(Client::State::finished); left < 400; ++left) {
      crowd.connect(address_of(socket.get()), 1);
      crowd[crowd.size() - 1].ask();
    }
  };
  for (const Style style : {Style::blocking, Style::watch}) {
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(2, style, endpoint_of(socket.get())));
    cluster->shutdown();
    EXPECT_TRUE(cluster.wait_until(
        "the end",
        [&] {
          keep_coming();
          return cluster->done();
        },
        &crowd));
  }
  TestCluster next(policy());
  ASSERT_TRUE(next.start(2, Style::blocking, endpoint_of(socket.get())));
  EXPECT_TRUE(next.wait_finished(crowd)) << "whoever was not served waits for the next server";
  next.expect_clean_shutdown();
}

TEST_P(Inherited, N13_socket_that_is_only_bound_is_listened_on) {
  const Folder folder;
  for (const auto& bound : {std::string(kAnyPort), std::string("tcp://[::1]:0"), "unix:" + folder.path("socket")}) {
    const UniqueFd socket = make_socket(bound, -1);
    const Endpoint address = address_of(socket.get());
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(3, Style::blocking, endpoint_of(socket.get())));
    EXPECT_EQ(cluster.endpoint().asked.to_string(), endpoint_of(socket.get()));
    EXPECT_EQ(cluster.address(), address) << "the socket's own";
    EXPECT_EQ(cluster->status().endpoints.size(), 1u) << "workers that ask for it share it";
    serve_twenty(cluster);
    cluster.expect_clean_shutdown();
  }
  struct stat about {};
  EXPECT_EQ(::lstat(folder.path("socket").c_str(), &about), 0) << "the path is not ours to remove";
}

TEST_P(Inherited, N13_endpoint_that_was_closed_can_be_asked_for_again) {
  const UniqueFd socket = make_socket(kAnyPort);
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    worker.listen(endpoint_of(socket.get())).value().close();
    auto again = worker.listen(endpoint_of(socket.get()));
    if (!again) return board.fail(again.error().message());
    return answer_all(worker, *again, Style::blocking, board);
  }, 2));
  serve_twenty(cluster);
  cluster.expect_clean_shutdown();
}

TEST_P(Inherited, N13_what_is_no_listening_or_bound_stream_socket_is_an_error_that_says_so) {
  const Folder folder;
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd datagram = make_socket("udp://127.0.0.1:0", -1, SOCK_DGRAM);
  const UniqueFd unbound(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd unbound_local(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd one(pair[0]);
  const UniqueFd other(pair[1]);
  TestCluster cluster(policy());
  const UniqueFd later = make_socket(kAnyPort);
  expect_contains(refusal(cluster, endpoint_of(later.get()), EPERM), "after the cluster");
  expect_contains(refusal(cluster, "fd:999", EBADF), "no such descriptor");
  expect_contains(refusal(cluster, endpoint_of(file.get()), ENOTSOCK), "no socket");
  expect_contains(refusal(cluster, endpoint_of(datagram.get()), EPROTOTYPE), "SOCK_STREAM");
  expect_contains(refusal(cluster, endpoint_of(unbound.get()), EINVAL), "not bound");
  expect_contains(refusal(cluster, endpoint_of(unbound_local.get()), EINVAL), "not bound");
  expect_contains(refusal(cluster, endpoint_of(one.get()), EISCONN), "connection");
  expect_contains(refusal(cluster, "fd:http", ENOENT), "LISTEN_FDS");
  cluster.expect_clean_shutdown();
}

TEST_P(Inherited, N13_sockets_that_the_cluster_made_cannot_be_asked_for_by_number) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  const auto ours = listening_at(cluster.address());
  ASSERT_FALSE(ours.empty());
  for (const int fd : ours) refusal(cluster, endpoint_of(fd), EPERM);
  cluster.expect_clean_shutdown();
}

TEST_P(Inherited, N13_policy_that_cannot_be_is_shared_and_the_status_says_why) {
  const UniqueFd socket = make_socket(kAnyPort);
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking, endpoint_of(socket.get())));
  const auto status = cluster.endpoint();
  const auto asked = Policy::parse(policy()).value();
  EXPECT_EQ(status.requested, asked);
  EXPECT_EQ(status.effective.backend, asked.backend == Backend::reuseport ? Backend::shared : asked.backend);
  if (asked.backend == Backend::reuseport) expect_contains(status.reason, "bound already");
  cluster.expect_clean_shutdown();
}

TEST(InheritedStrict, N13_reuseport_on_an_inherited_socket_is_an_error_but_auto_is_not) {
  const ScopedVariable strict("LB_STRICT", "1");
  const UniqueFd socket = make_socket(kAnyPort);
  {
    TestCluster cluster("reuseport:hash");
    expect_contains(refusal(cluster, endpoint_of(socket.get()), EOPNOTSUPP), "LB_STRICT");
    cluster.expect_clean_shutdown();
  }
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, Style::blocking, endpoint_of(socket.get())));
  EXPECT_EQ(cluster.endpoint().effective.backend, Backend::shared);
  cluster.expect_clean_shutdown();
}

TEST(InheritedOptions, N13_only_the_backlog_may_be_asked_for) {
  const UniqueFd socket = make_socket(kAnyPort);
  TestCluster cluster("shared");
  for (const ListenOptions& options :
       {ListenOptions{.v6only = true}, ListenOptions{.exclusive = true}, ListenOptions{.receive_buffer = 4096}}) {
    refusal(cluster, endpoint_of(socket.get()), EINVAL, options);
  }
  cluster.expect_clean_shutdown();
}

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
  return std::getenv("LISTEN_PID") == nullptr && std::getenv("LISTEN_FDS") == nullptr &&
         std::getenv("LISTEN_FDNAMES") == nullptr;
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
    serve_twenty(cluster);
    EXPECT_EQ(refusal(cluster, "fd:https", ENOENT).find("made after"), std::string::npos);
    expect_contains(cluster.board().text.data(), "http, admin");
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
    serve_twenty(cluster);
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
  for (const Case& wrong : {Case{"x", "1", nullptr, EINVAL}, Case{nullptr, "x", nullptr, EINVAL},
                            Case{nullptr, "0", nullptr, EINVAL}, Case{nullptr, "-1", nullptr, EINVAL},
                            Case{nullptr, "1", "a:b", EINVAL}, Case{nullptr, "2000", nullptr, EBADF}}) {
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
