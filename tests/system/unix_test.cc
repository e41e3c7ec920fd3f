// SPDX-License-Identifier: MIT
// UNIX sockets: paths and abstract names, who may have one, and what becomes of it.
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>

#include "contract.hh"
#include "isolation.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

bool exists(const std::string& path) {
  struct stat about {};
  return ::lstat(path.c_str(), &about) == 0;
}

unsigned mode_of(const std::string& path) {
  struct stat about {};
  EXPECT_EQ(::lstat(path.c_str(), &about), 0) << path;
  return about.st_mode & 07777;
}

std::string abstract_endpoint() { return "unix:@" + unique_name("lb"); }

/// What the only worker is told when it asks for `endpoint`.
std::string refusal(const std::string& policy, const std::string& endpoint, int code, ListenOptions options = {}) {
  TestCluster cluster(policy);
  auto& board = cluster.board();
  if (!cluster->spawn([&](Worker& worker) {
        const auto refused = worker.listen(endpoint, options);
        std::snprintf(board.text.data(), board.text.size(), "%s", refused.error().message().c_str());
        board.flag[0] = static_cast<uint32_t>(refused.error().code);
        return 0;
      })) {
    return "(no worker)";
  }
  EXPECT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(board.flag[0], static_cast<uint32_t>(code)) << board.text.data();
  EXPECT_TRUE(cluster->status().endpoints.empty()) << "something is remembered of a failed listen";
  return board.text.data();
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << '"' << text << "\" does not contain \"" << part << '"';
}

class UnixEveryWay : public StyleTest {};
LB_FOR_EVERY_POLICY_AND_STYLE(UnixEveryWay);

TEST_P(UnixEveryWay, N14_each_of_1000_connections_to_a_path_is_served_once) {
  const Folder folder;
  const auto endpoint = "unix:" + folder.path("socket");
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(4, style(), endpoint));
  EXPECT_EQ(cluster.address().to_string(), endpoint);
  const Load load({.to = cluster.address(), .count = 1000, .at_once = 32});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 1000u) << load.describe() << cluster.describe();
  EXPECT_EQ(cluster.board().not_once(1000), 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(UnixEveryWay, N14_shutdown_under_load_answers_every_client_that_got_through) {
  const Folder folder;
  for (const auto& endpoint : {"unix:" + folder.path("socket"), abstract_endpoint()}) {
    TestCluster cluster(policy());
    ASSERT_TRUE(cluster.start(4, style(), endpoint));
    const Load load({.to = cluster.address(), .count = Board::kNumbers, .at_once = 16, .until_refused = true});
    ASSERT_TRUE(cluster.wait_until(
        "load", [&] { return load.answered() >= 300; }, nullptr, &load));
    cluster.expect_clean_shutdown();
    ASSERT_TRUE(cluster.wait_over(load));
    EXPECT_EQ(load.lost(), 0u) << endpoint << load.describe();
    EXPECT_GT(load.refused(), 0u) << endpoint << load.describe();
    EXPECT_EQ(load.answered() + load.refused(), load.started());
    EXPECT_EQ(cluster.board().served_twice(), 0u);
  }
}

class Unix : public PolicyTest {};
LB_FOR_EVERY_POLICY(Unix);

TEST_P(Unix, N14_abstract_name_is_served) {
  const auto endpoint = abstract_endpoint();
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking, endpoint));
  EXPECT_EQ(cluster.address().to_string(), endpoint);
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Unix, N14_path_goes_with_the_endpoint_and_not_before) {
  const Folder folder;
  const auto path = folder.path("socket");
  TestCluster cluster(policy());
  auto& board = cluster.board();
  const Gate close;
  ASSERT_TRUE(cluster.start(3, [&](Worker& worker) {
    auto listener = worker.listen("unix:" + path).value();
    if (worker.id() != 1) return answer_all(worker, listener, Style::blocking, board);
    close.wait();
    listener.close();
    return 0;
  }));
  close.open();
  ASSERT_TRUE(cluster.wait_exit(1));
  ::kill(cluster.worker(2).pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_until("the replacement", [&] { return cluster.event(Event::Kind::listening, 4) != nullptr; }));
  close.open();
  ASSERT_TRUE(cluster->drain(3));
  ASSERT_TRUE(cluster.wait_exit(3));
  EXPECT_TRUE(exists(path)) << "workers that close, crash or drain have nothing to do with the path";
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(crowd.per_worker()[4], 10u);
  cluster.expect_clean_shutdown();
}

TEST_P(Unix, N14_path_that_the_last_worker_closed_is_gone_and_can_be_listened_on_again) {
  const Folder folder;
  const auto path = folder.path("socket");
  const Gate again;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    worker.listen("unix:" + path).value().close();
    again.wait();
    auto second = worker.listen("unix:" + path);
    if (!second) return board.fail(second.error().message());
    return answer_all(worker, *second, Style::blocking, board);
  }));
  EXPECT_TRUE(cluster.wait_until("the path to go", [&] { return !exists(path); }));
  again.open();
  ASSERT_TRUE(cluster.wait_until("the second listen", [&] { return cluster.count(Event::Kind::listening) == 2; }));
  EXPECT_TRUE(exists(path));
  cluster.expect_clean_shutdown();
}

TEST_P(Unix, N14_path_is_removed_at_the_end_unless_somebody_has_replaced_it) {
  const Folder folder;
  const auto path = folder.path("socket");
  for (const bool replaced : {false, true}) {
    UniqueFd other;
    {
      TestCluster cluster(policy());
      ASSERT_TRUE(cluster.start(2, Style::blocking, "unix:" + path));
      ASSERT_TRUE(exists(path));
      if (replaced) {
        ASSERT_EQ(::unlink(path.c_str()), 0);
        other = make_socket("unix:" + path);
      }
      cluster.expect_clean_shutdown();
    }
    EXPECT_EQ(exists(path), replaced);
  }
}

TEST_P(Unix, N14_what_a_dead_server_left_is_replaced) {
  const Folder folder;
  const auto endpoint = "unix:" + folder.path("socket");
  make_socket(endpoint).reset();
  ASSERT_TRUE(exists(folder.path("socket")));
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking, endpoint));
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Unix, N14_living_server_is_eaddrinuse_and_keeps_its_name) {
  const Folder folder;
  for (const auto& endpoint : {"unix:" + folder.path("socket"), abstract_endpoint()}) {
    for (const int backlog : {16, 0}) {
      const UniqueFd living = make_socket(endpoint, backlog);
      Crowd crowd;
      crowd.connect(address_of(living.get()), backlog == 0 ? 1 : 0);  // its queue is full
      expect_contains(refusal(policy(), endpoint, EADDRINUSE), endpoint);
      const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      const auto to = Endpoint::parse(endpoint).value();
      EXPECT_TRUE(::connect(client.get(), to.address(), to.length()) == 0 || errno == EAGAIN) << std::strerror(errno);
      ::unlink(folder.path("socket").c_str());
      crowd.leave_all();
    }
  }
}

TEST_P(Unix, N14_what_is_no_socket_is_never_removed) {
  const Folder folder;
  const auto file = folder.path("file");
  const auto directory = folder.path("directory");
  const auto link = folder.path("link");
  std::ofstream(file) << "precious";
  ASSERT_EQ(::mkdir(directory.c_str(), 0700), 0);
  ASSERT_EQ(::symlink("/nowhere", link.c_str()), 0);
  for (const auto& path : {file, directory, link}) {
    const auto message = refusal(policy(), "unix:" + path, ENOTSOCK);
    expect_contains(message, path);
    expect_contains(message, "no socket");
    EXPECT_TRUE(exists(path));
  }
}

TEST_P(Unix, N14_path_in_no_folder_and_path_too_long_are_errors_that_name_it) {
  expect_contains(refusal(policy(), "unix:/nowhere/socket", ENOENT), "unix:/nowhere/socket");
  const auto message = refusal(policy(), "unix:/" + std::string(107, 'p'), EINVAL);
  expect_contains(message, "108");
  expect_contains(message, "107");
}

TEST_P(Unix, N14_path_has_the_mode_that_was_asked_for_whatever_the_umask) {
  const Folder folder;
  for (const mode_t mask : {0000, 0022, 0077}) {
    for (const unsigned mode : {0600u, 0660u, 0666u}) {
      const auto path = folder.path("socket");
      const mode_t before = ::umask(mask);
      TestCluster cluster(policy());
      const bool started =
          cluster.start(2, answering(Style::blocking, cluster.board(), "unix:" + path, {.permissions = mode}));
      ::umask(before);
      ASSERT_TRUE(started);
      EXPECT_EQ(mode_of(path), mode) << std::oct << mask;
      cluster.expect_clean_shutdown();
    }
  }
}

TEST_P(Unix, N14_path_is_made_with_its_mode_not_changed_to_it) {
  const Folder folder;
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_GE(::inotify_add_watch(watch.get(), folder.path("").c_str(), IN_CREATE | IN_ATTRIB), 0);
  const mode_t before = ::umask(0);
  TestCluster cluster(policy());
  const bool started = cluster.start(
      1, answering(Style::blocking, cluster.board(), "unix:" + folder.path("socket"), {.permissions = 0600}));
  ::umask(before);
  ASSERT_TRUE(started);
  EXPECT_EQ(mode_of(folder.path("socket")), 0600u);
  alignas(inotify_event) char buffer[4096];
  const ssize_t size = ::read(watch.get(), buffer, sizeof buffer);
  ASSERT_GT(size, 0);
  for (ssize_t at = 0; at < size;) {
    const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
    EXPECT_EQ(event->mask & IN_ATTRIB, 0u) << "its mode was changed after it had been made";
    at += static_cast<ssize_t>(sizeof *event + event->len);
  }
  cluster.expect_clean_shutdown();
}

TEST_P(Unix, N14_peer_is_the_clients_name_or_unnamed) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  const auto endpoint = abstract_endpoint();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(endpoint).value();
    while (auto connection = listener.accept()) {
      const auto peer = connection->peer();
      std::snprintf(board.text.data(), board.text.size(), "%s", peer ? peer->to_string().c_str() : peer.error().op);
      ++board.flag[0];
    }
    return 0;
  }));
  const auto to = Endpoint::parse(endpoint).value();
  const auto name = abstract_endpoint();
  const UniqueFd named = make_socket(name, -1);
  ASSERT_EQ(::connect(named.get(), to.address(), to.length()), 0) << std::strerror(errno);
  ASSERT_TRUE(cluster.wait_until("the first client", [&] { return board.flag[0] == 1; }));
  EXPECT_EQ(board.text.data(), name);
  const UniqueFd unnamed(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(unnamed.get(), to.address(), to.length()), 0) << std::strerror(errno);
  ASSERT_TRUE(cluster.wait_until("the second client", [&] { return board.flag[0] == 2; }));
  EXPECT_STREQ(board.text.data(), "unix:");
  EXPECT_TRUE(cluster.shut_down());
}

TEST_P(Unix, N14_connections_that_wait_for_a_busy_worker_are_in_the_status_and_survive_a_shutdown) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(1, Style::blocking, abstract_endpoint()));
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 1));
  const auto waiting = [&] {
    unsigned count = cluster.endpoint().queued;
    for (const auto& load : cluster.endpoint().workers) count += load.backlog;
    return count;
  };
  EXPECT_TRUE(cluster.wait_until("all to be seen", [&] { return waiting() == crowd.size() - 1; }));
  cluster->shutdown();
  ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Unix, N14_policy_that_cannot_be_is_shared_and_the_status_says_why) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking, abstract_endpoint()));
  const auto status = cluster.endpoint();
  const auto asked = Policy::parse(policy()).value();
  EXPECT_EQ(status.requested, asked);
  if (asked.backend == Backend::reuseport) {
    EXPECT_EQ(status.effective.backend, Backend::shared);
    expect_contains(status.reason, "UNIX");
    expect_contains(cluster->status().to_string(), status.reason);
  } else {
    EXPECT_EQ(status.effective.backend, asked.backend);
  }
  cluster.expect_clean_shutdown();
}

TEST(UnixStrict, N14_reuseport_on_a_unix_socket_is_an_error_that_says_why_but_auto_is_not) {
  const ScopedVariable strict("LB_STRICT", "1");
  const auto endpoint = abstract_endpoint();
  expect_contains(refusal("reuseport", endpoint, EOPNOTSUPP), "LB_STRICT: reuseport on " + endpoint);
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster.start(2, Style::blocking, endpoint));
  EXPECT_EQ(cluster.endpoint().effective.backend, Backend::shared);
  expect_contains(cluster.endpoint().reason, "UNIX");
  cluster.expect_clean_shutdown();
}

/// An event loop that counts how often it is woken while it drains and waits for its last client.
int count_wakes(Worker& worker, Listener& listener, Board& board) {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  const auto add = [&](int fd, uint64_t data) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = data}};
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event);
  };
  add(worker.fd(), 0);
  if (!listener.watch(epoll.get(), 1)) return board.fail("watch");
  std::optional<Connection> held;
  while (true) {
    epoll_event event{};
    if (::epoll_wait(epoll.get(), &event, 1, -1) < 0) continue;
    if (worker.draining()) ++board.flag[0];
    if (event.data.u64 == 2) return 0;  // the client has left
    if (event.data.u64 == 0 && !worker.dispatch()) return board.fail("dispatch");
    while (auto connection = listener.try_accept().value()) {
      held = std::move(*connection);
      say_hello(worker, held->fd());
      add(held->fd(), 2);
    }
    if (listener.drained()) board.flag[1] = 1;
  }
}

class Wakes : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(exclusive, Wakes, testing::Bool());

TEST_P(Wakes, N14_loop_that_drains_is_not_woken_by_a_queue_that_refuses) {
  TestCluster cluster("shared");
  auto& board = cluster.board();
  const auto endpoint = Endpoint::parse(abstract_endpoint()).value();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(endpoint, {.exclusive = GetParam()}).value();
    return count_wakes(worker, listener, board);
  }));
  Crowd crowd;
  crowd.connect(endpoint, 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  cluster->shutdown();
  ASSERT_TRUE(cluster.wait_until("the worker to be drained", [&] { return board.flag[1] == 1; }));
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(2)));  // room for many a wake
  EXPECT_LE(board.flag[0], 10u);
  crowd.leave_all();
  EXPECT_TRUE(cluster.wait_until("the end", [&] { return cluster->done(); }));
}

}  // namespace
}  // namespace lb::test
