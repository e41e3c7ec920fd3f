// SPDX-License-Identifier: MIT
// The admin socket: who may ask, what is answered, and what clients cannot do to the primary. lbctl_test.sh asks with lbctl.
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "contract.hh"
#include "isolation.hh"
#include "privileges.hh"
#include "refusal.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

/// Connects to an admin socket, so that one process can be primary and client at once.
class Asker {
 public:
  explicit Asker(const std::string& path) {
    const auto to = Endpoint::parse("unix:" + path).value();
    fd_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (::connect(fd_.get(), to.address(), to.length()) != 0) error_ = errno;
  }
  Asker(const std::string& path, const std::string& request) : Asker(path) { say(request); }

  void say(const std::string& bytes) const { (void)!::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  /// True once the primary has said its last word; `answer` then has all it said.
  bool over() {
    std::array<char, 4096> buffer{};
    ssize_t n = 0;
    while ((n = ::recv(fd_.get(), buffer.data(), buffer.size(), 0)) > 0) answer_.append(buffer.data(), static_cast<size_t>(n));
    return n == 0 || errno != EAGAIN;
  }
  const std::string& answer() const noexcept { return answer_; }
  int error() const noexcept { return error_; }

 private:
  UniqueFd fd_;
  int error_ = 0;
  std::string answer_;
};

Options at(const std::string& path) {
  Options options;
  options.admin_socket = path;
  return options;
}

std::string ask(TestCluster& cluster, const std::string& path, const std::string& request) {
  Asker asker(path, request + "\n");
  EXPECT_EQ(asker.error(), 0) << std::strerror(asker.error());
  cluster.wait_until("an answer", [&] { return asker.over(); });
  return asker.answer();
}

void expect_refused(const std::string& answer, const std::string& why) {
  EXPECT_EQ(answer.rfind(R"({"lb":1,"ok":false,"error":")", 0), 0u) << answer;
  expect_contains(answer, why);
  EXPECT_EQ(answer.find('\n'), answer.size() - 1) << "one line";
}

TEST(Admin, status_names_the_endpoints_and_the_workers) {
  const Folder folder;
  const auto path = folder.path("admin");
  TestCluster cluster("shared", at(path));
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  const auto answer = ask(cluster, path, "lb/1 status");
  EXPECT_EQ(answer.rfind(R"({"lb":1,"ok":true,"primary":{"pid":)" + std::to_string(::getpid()), 0), 0u) << answer;
  expect_contains(answer, R"("address":")" + cluster.address().to_string() + "\"");
  expect_contains(answer, R"("requested":"shared","effective":"shared")");
  expect_contains(answer, R"("id":2,"pid":)" + std::to_string(cluster.worker(2).pid));
  EXPECT_EQ(answer.find('\n'), answer.size() - 1) << "one line";
  cluster.expect_clean_shutdown();
}

TEST(Admin, works_with_epoll_where_there_is_no_io_uring) {
  in_child([] {
    ASSERT_TRUE(refuse_syscall(SYS_io_uring_setup, EPERM));
    const Folder folder;
    const auto path = folder.path("admin");
    TestCluster cluster("shared", at(path));
    ASSERT_TRUE(cluster.start(1, Style::blocking));
    expect_contains(ask(cluster, path, "lb/1 status"), R"("ok":true)");
    cluster.expect_clean_shutdown();
  });
}

TEST(Admin, is_answered_by_a_primary_that_only_its_fd_wakes) {
  const Folder folder;
  const auto path = folder.path("admin");
  TestCluster cluster("shared", at(path));
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  pollfd ready{.fd = cluster->fd(), .events = POLLIN, .revents = 0};
  for (int i = 0; i < 3; ++i) {  // not only what was there before
    Asker asker(path, "lb/1 status\n");
    while (!asker.over()) {
      ASSERT_EQ(::poll(&ready, 1, 20'000), 1) << "in vain for an answer";
      ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
    }
    expect_contains(asker.answer(), R"("ok":true)");
  }
  cluster.expect_clean_shutdown();
}

TEST(Admin, drain_drains_that_worker_and_it_is_not_replaced) {
  const Folder folder;
  const auto path = folder.path("admin");
  TestCluster cluster("shared", at(path));
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  EXPECT_EQ(ask(cluster, path, "lb/1 drain 1"), "{\"lb\":1,\"ok\":true}\n");
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_TRUE(cluster.event(Event::Kind::exit, 1)->expected);
  EXPECT_EQ(cluster->workers().size(), 1u);
  expect_refused(ask(cluster, path, "lb/1 drain 1"), "no worker 1");
  cluster.expect_clean_shutdown();
}

TEST(Admin, drain_with_a_deadline_ends_a_worker_whose_client_stays) {
  const Folder folder;
  const auto path = folder.path("admin");
  TestCluster cluster("shared", at(path));
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 1));
  expect_contains(ask(cluster, path, "lb/1 drain 1 0"), R"("ok":true)");
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->signal, SIGKILL);
  cluster.shut_down();
}

TEST(Admin, roll_replaces_every_worker_and_tells_its_generation) {
  const Folder folder;
  const auto path = folder.path("admin");
  TestCluster cluster("shared", at(path));
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  EXPECT_EQ(ask(cluster, path, "lb/1 roll 2"), "{\"lb\":1,\"ok\":true,\"generation\":2}\n");
  ASSERT_TRUE(cluster.wait_until("the roll's end", [&] { return cluster->status().roll.state == RollStatus::State::done; }));
  expect_contains(ask(cluster, path, "lb/1 status"), R"("roll":{"state":"done","generation":2,"total":2,"replaced":2,)");
  for (const auto& worker : cluster->workers()) EXPECT_EQ(worker.generation, 2u);
  for (const char* wrong : {"0", "-1", "x", "2 2"}) expect_refused(ask(cluster, path, std::string("lb/1 roll ") + wrong), "");
  cluster.expect_clean_shutdown();
}

TEST(Admin, scale_starts_workers_and_lets_them_leave) {
  const Folder folder;
  const auto path = folder.path("admin");
  TestCluster cluster("shared", at(path));
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  EXPECT_EQ(ask(cluster, path, "lb/1 scale 3"), "{\"lb\":1,\"ok\":true}\n");
  EXPECT_TRUE(cluster.wait_until("three to listen", [&] { return cluster.endpoint().workers.size() == 3; }));
  EXPECT_EQ(ask(cluster, path, "lb/1 scale 1"), "{\"lb\":1,\"ok\":true}\n");
  EXPECT_TRUE(cluster.wait_until("two to leave", [&] { return cluster->workers().size() == 1; }));
  for (const char* wrong : {"", "0", "-1", "x", "100000", "1 1"})
    expect_refused(ask(cluster, path, std::string("lb/1 scale ") + wrong), "");
  cluster.expect_clean_shutdown();
}

TEST(Admin, weight_is_set_and_told) {
  const Folder folder;
  const auto path = folder.path("admin");
  TestCluster cluster("shared", at(path));
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  EXPECT_EQ(ask(cluster, path, "lb/1 weight 2 40"), "{\"lb\":1,\"ok\":true}\n");
  EXPECT_EQ(cluster.worker(1).weight, 1u);
  EXPECT_EQ(cluster.worker(2).weight, 40u);
  expect_contains(ask(cluster, path, "lb/1 status"), R"("weight":40)");
  for (const char* wrong : {"", "2", "2 0", "2 -1", "2 65536", "2 x", "9 1", "x 1", "2 1 1"})
    expect_refused(ask(cluster, path, std::string("lb/1 weight ") + wrong), "");
  EXPECT_EQ(cluster.worker(2).weight, 40u);
  cluster.expect_clean_shutdown();
}

TEST(Admin, policy_changes_that_of_one_endpoint_or_of_all) {
  const Folder folder;
  const auto path = folder.path("admin");
  TestCluster cluster("shared", at(path));
  const auto with_blank = "unix:" + folder.path("a server");
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  ASSERT_TRUE(cluster.start(2, Style::blocking, with_blank));
  const auto changed = [&](size_t index, Backend backend) {
    const auto endpoint = cluster->status().endpoints.at(index);
    return endpoint.effective.backend == backend && endpoint.changing.empty();
  };
  EXPECT_EQ(ask(cluster, path, "lb/1 policy round-robin " + with_blank), "{\"lb\":1,\"ok\":true}\n");
  EXPECT_TRUE(cluster.wait_until("the change of one", [&] { return changed(1, Backend::round_robin); }));
  EXPECT_TRUE(changed(0, Backend::shared));
  EXPECT_EQ(ask(cluster, path, "lb/1 policy rr"), "{\"lb\":1,\"ok\":true}\n");
  EXPECT_TRUE(cluster.wait_until("the change of all",
                                 [&] { return changed(0, Backend::round_robin) && changed(1, Backend::round_robin); }));
  expect_refused(ask(cluster, path, "lb/1 policy fastest"), "one of: auto");
  expect_refused(ask(cluster, path, "lb/1 policy shared tcp://127.0.0.1:1"), cluster.address().to_string());
  expect_refused(ask(cluster, path, "lb/1 policy rr:custom"), "selector");
  expect_refused(ask(cluster, path, "lb/1 policy"), "");
  cluster.expect_clean_shutdown();
}

TEST(Admin, path_is_for_its_user_alone_and_goes_with_the_cluster) {
  const Folder folder;
  const auto path = folder.path("admin");
  {
    TestCluster cluster("shared", at(path));
    ASSERT_TRUE(cluster.made());
    struct stat about {};
    ASSERT_EQ(::lstat(path.c_str(), &about), 0);
    EXPECT_EQ(about.st_mode, S_IFSOCK | 0600u);
  }
  EXPECT_FALSE(exists(path));
}

TEST(Admin, what_a_dead_primary_left_is_replaced_and_a_living_one_is_not) {
  const Folder folder;
  const auto path = folder.path("admin");
  make_socket("unix:" + path).reset();
  TestCluster cluster("shared", at(path));
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  auto second = Cluster::create(at(path));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  expect_contains(second.error().message(), "admin socket");
  expect_contains(second.error().message(), path);
  expect_contains(ask(cluster, path, "lb/1 status"), R"("ok":true)");
  cluster.expect_clean_shutdown();
}

TEST(Admin, environment_overrides_the_option_and_empty_is_none) {
  const Folder folder;
  const auto option = folder.path("option");
  const auto variable = folder.path("variable");
  for (const bool none : {false, true}) {
    const ScopedVariable set("LB_ADMIN_SOCKET", none ? "" : variable.c_str());
    TestCluster cluster("shared", at(option));
    ASSERT_TRUE(cluster.made());
    EXPECT_FALSE(exists(option));
    EXPECT_EQ(exists(variable), !none);
  }
}

/// A worker that is a primary itself.
const Program kNested("nested primary", [](Worker&, Board& board, const std::string&) {
  if (std::getenv("LB_ADMIN_SOCKET") != nullptr) return board.fail("a worker has LB_ADMIN_SOCKET");
  const auto inner = Cluster::create({});
  return inner ? 0 : board.fail(inner.error().message());
});

TEST(Admin, workers_do_not_get_the_variable_so_a_server_that_one_starts_comes_up) {
  const Folder folder;
  const auto path = folder.path("admin");
  const ScopedVariable set("LB_ADMIN_SOCKET", path.c_str());
  for (const WorkerKind kind : {WorkerKind::forked, WorkerKind::command}) {
    TestCluster cluster({"shared", kind});
    ASSERT_TRUE(cluster.spawn(kNested));
    ASSERT_TRUE(cluster.wait_exit(1));
    EXPECT_EQ(cluster.board().failures, 0u) << cluster.board().text.data();
    EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->exit_code, 0);
    EXPECT_TRUE(exists(path));
  }
}

TEST(Admin, variable_that_names_the_socket_of_a_living_server_is_an_error_that_names_it) {
  const Folder folder;
  const auto path = folder.path("admin");
  const ScopedVariable set("LB_ADMIN_SOCKET", path.c_str());
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.made());
  const auto second = Cluster::create({});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  expect_contains(second.error().message(), "LB_ADMIN_SOCKET");
  expect_contains(second.error().message(), path);
}

TEST(Admin, path_that_cannot_be_is_an_error_that_names_it) {
  for (const char* path : {"relative", "/no/such/folder/admin"}) {
    auto cluster = Cluster::create(at(path));
    ASSERT_FALSE(cluster);
    expect_contains(cluster.error().message(), path);
  }
}

/// What a client of another user sees of an abstract name, which has no mode.
TEST(Admin, another_user_is_not_answered) {
  if (::geteuid() != 0) LB_SKIP_UNPRIVILEGED("only root can be another user");
  constexpr uid_t kNobody = 65534;
  const auto name = "@" + unique_name("lb");
  const Folder folder;
  const auto path = folder.path("admin");
  ASSERT_EQ(::chmod(folder.path("").c_str(), 0755), 0);
  for (const auto& where : {name, path}) {
    TestCluster cluster("shared", at(where));
    ASSERT_TRUE(cluster.start(1, Style::blocking));
    const Shared<std::atomic<int>> seen;
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setresuid(kNobody, kNobody, kNobody) != 0) ::_exit(9);
      Asker asker(where);
      if (asker.error() != 0) ::_exit(asker.error());
      asker.say("lb/1 drain 1\n");
      while (!asker.over()) ::poll(nullptr, 0, 1);
      ::_exit(asker.answer().empty() ? 0 : 8);
    }
    int status = 0;
    cluster.wait_until("the other user", [&] { return ::waitpid(child, &status, WNOHANG) == child; });
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), where == name ? 0 : EACCES);
    EXPECT_EQ(cluster.worker(1).state, WorkerState::listening);
    cluster.expect_clean_shutdown();
  }
}

TEST(Admin, nonsense_is_refused_and_says_what_is_allowed) {
  const Folder folder;
  const auto path = folder.path("admin");
  TestCluster cluster("shared", at(path));
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  expect_refused(ask(cluster, path, ""), "lb/1");
  expect_refused(ask(cluster, path, "lb/2 status"), "lb/1");
  expect_refused(ask(cluster, path, "GET / HTTP/1.1\r"), "lb/1");
  expect_refused(ask(cluster, path, "lb/1"), "one of: status, drain, roll, scale, weight, policy, upgrade");
  expect_refused(ask(cluster, path, "lb/1 reboot"), "reboot");
  expect_refused(ask(cluster, path, "lb/1 status now"), "no argument");
  expect_refused(ask(cluster, path, "lb/1 upgrade now"), "no argument");
  for (const char* worker : {"", "0", "-1", "x", "4294967296", "1 -1", "1 x", "1 4294967296", "1 1 1"})
    expect_refused(ask(cluster, path, std::string("lb/1 drain ") + worker), "");
  expect_refused(ask(cluster, path, std::string("lb/1 \0\x01\xff\"\\", 10)), R"(\u0000\u0001\ufffd\"\\)");
  expect_refused(ask(cluster, path, std::string(5000, 'x')), "lb/1");
  EXPECT_EQ(cluster.worker(1).state, WorkerState::listening);
  cluster.expect_clean_shutdown();
}

TEST(Admin, worker_holds_neither_the_socket_nor_its_clients) {
  const Folder folder;
  const auto path = folder.path("admin");
  TestCluster cluster("shared", at(path));
  auto& board = cluster.board();
  const auto before = open_descriptors();
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  const Asker silent(path);
  ASSERT_TRUE(cluster.wait_until("the client to be let in", [&] { return open_descriptors().size() > before.size() + 3; }));
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    for (const int fd : open_sockets()) {
      const auto own = address_of(fd);
      if (own.kind() == Endpoint::Kind::unix_socket && own.name() == path) return board.fail("descriptor " + std::to_string(fd));
    }
    auto listener = worker.listen(kAnyPort).value();
    return answer_all(worker, listener, Style::blocking, board);
  }));
  ASSERT_TRUE(cluster.wait_until("the worker", [&] { return cluster.count(Event::Kind::listening) == 2; }));
  cluster.expect_clean_shutdown();
}

TEST(Admin, clients_that_never_ask_hold_up_neither_the_others_for_long_nor_the_shutdown) {
  const Folder folder;
  const auto path = folder.path("admin");
  TestCluster cluster("shared", at(path));
  ASSERT_TRUE(cluster.start(1, Style::blocking));
  std::vector<std::unique_ptr<Asker>> silent;
  for (int i = 0; i < 12; ++i) silent.push_back(std::make_unique<Asker>(path));
  silent[0]->say("lb/1 stat");
  expect_contains(ask(cluster, path, "lb/1 status"), R"("ok":true)");
  EXPECT_TRUE(silent[0]->over()) << "it was before the one that asked";
  Crowd crowd;
  crowd.connect(cluster.address(), 5);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
