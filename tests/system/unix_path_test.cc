// SPDX-License-Identifier: MIT
// The path of a UNIX socket: who may have it, with what mode, and when it goes.
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "contract.hh"
#include "refusal.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

unsigned mode_of(const std::string& path) {
  struct stat about {};
  EXPECT_EQ(::lstat(path.c_str(), &about), 0) << path;
  return about.st_mode & 07777;
}

/// What the only worker of a cluster is told.
std::string told(const std::string& policy, const std::string& endpoint, int code) {
  TestCluster cluster(policy);
  auto message = refusal(cluster, endpoint, code);
  EXPECT_TRUE(cluster->status().endpoints.empty()) << "something is remembered of a failed listen";
  cluster.expect_clean_shutdown();
  return message;
}

class UnixPath : public PolicyTest {};
LB_FOR_EVERY_POLICY(UnixPath);

TEST_P(UnixPath, N14_path_goes_with_the_endpoint_and_not_before) {
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

TEST_P(UnixPath, N14_path_that_the_last_worker_closed_is_gone_and_can_be_listened_on_again) {
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

TEST_P(UnixPath, N14_path_is_removed_at_the_end_unless_somebody_has_replaced_it) {
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

TEST_P(UnixPath, N14_what_a_dead_server_left_is_replaced) {
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

TEST_P(UnixPath, N14_living_server_is_eaddrinuse_and_keeps_its_name) {
  const Folder folder;
  for (const auto& endpoint : {"unix:" + folder.path("socket"), abstract_endpoint()}) {
    for (const int backlog : {16, 0}) {
      const UniqueFd living = make_socket(endpoint, backlog);
      Crowd crowd;
      crowd.connect(address_of(living.get()), backlog == 0 ? 1 : 0);  // its queue is full
      expect_contains(told(policy(), endpoint, EADDRINUSE), endpoint);
      const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      const auto to = Endpoint::parse(endpoint).value();
      EXPECT_TRUE(::connect(client.get(), to.address(), to.length()) == 0 || errno == EAGAIN) << std::strerror(errno);
      ::unlink(folder.path("socket").c_str());
      crowd.leave_all();
    }
  }
}

TEST_P(UnixPath, N14_what_is_no_socket_is_never_removed) {
  const Folder folder;
  const auto file = folder.path("file");
  const auto directory = folder.path("directory");
  const auto link = folder.path("link");
  std::ofstream(file) << "precious";
  ASSERT_EQ(::mkdir(directory.c_str(), 0700), 0);
  ASSERT_EQ(::symlink("/nowhere", link.c_str()), 0);
  for (const auto& path : {file, directory, link}) {
    const auto message = told(policy(), "unix:" + path, ENOTSOCK);
    expect_contains(message, path);
    expect_contains(message, "no socket");
    EXPECT_TRUE(exists(path));
  }
}

TEST_P(UnixPath, N14_path_in_no_folder_and_path_too_long_are_errors_that_name_it) {
  expect_contains(told(policy(), "unix:/nowhere/socket", ENOENT), "unix:/nowhere/socket");
  const auto message = told(policy(), "unix:/" + std::string(107, 'p'), EINVAL);
  expect_contains(message, "108");
  expect_contains(message, "107");
}

TEST_P(UnixPath, N14_path_has_the_mode_that_was_asked_for_whatever_the_umask) {
  const Folder folder;
  for (const mode_t mask : {0000, 0022, 0077}) {
    for (const unsigned mode : {0600u, 0660u, 0666u}) {
      const auto path = folder.path("socket");
      const mode_t before = ::umask(mask);
      TestCluster cluster(policy());
      const bool started = cluster.start(2, answering(Style::blocking, cluster.board(), "unix:" + path, {.permissions = mode}));
      ::umask(before);
      ASSERT_TRUE(started);
      EXPECT_EQ(mode_of(path), mode) << std::oct << mask;
      cluster.expect_clean_shutdown();
    }
  }
}

TEST_P(UnixPath, N14_path_is_made_with_its_mode_not_changed_to_it) {
  const Folder folder;
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_GE(::inotify_add_watch(watch.get(), folder.path("").c_str(), IN_CREATE | IN_ATTRIB), 0);
  const mode_t before = ::umask(0);
  TestCluster cluster(policy());
  const bool started =
      cluster.start(1, answering(Style::blocking, cluster.board(), "unix:" + folder.path("socket"), {.permissions = 0600}));
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

}  // namespace
}  // namespace lb::test
