// SPDX-License-Identifier: MIT
// What goes over to the next primary, and what becomes of those that stay behind, or are refused.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>

#include "contract.hh"
#include "isolation.hh"
#include "refusal.hh"
#include "sockets.hh"
#include "upgradable.hh"

namespace lb::test {
namespace {

/// What the primary behind an admin socket says.
std::string ask(const std::string& path, const std::string& request) {
  const auto to = Endpoint::parse("unix:" + path).value();
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), to.address(), to.length()) != 0) return "";
  const std::string line = "lb/1 " + request + "\n";
  (void)!::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL);
  std::string answer;
  std::array<char, 4096> buffer{};
  for (ssize_t n = 0; (n = ::recv(fd.get(), buffer.data(), buffer.size(), 0)) > 0;)
    answer.append(buffer.data(), static_cast<size_t>(n));
  return answer;
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(UpgradeChain, weights_and_the_number_of_workers_that_an_operator_has_set_go_over) {
  const Folder folder;
  const auto path = folder.path("admin");
  const ScopedVariable named("LB_ADMIN_SOCKET", path.c_str());
  UpgradableServer server("reuseport");
  (void)server.address();
  const auto three_listen = [&] { return count_of(ask(path, "status"), R"("state":"listening")") == 3; };
  EXPECT_EQ(ask(path, "weight 2 7"), "{\"lb\":1,\"ok\":true}\n");
  EXPECT_EQ(ask(path, "scale 3"), "{\"lb\":1,\"ok\":true}\n");
  ASSERT_TRUE(wait_until("the third", three_listen)) << server.error();
  expect_contains(ask(path, "upgrade"), R"("ok":true,"pid":)");
  ASSERT_TRUE(server.wait_flag(kTookOver, 1));
  EXPECT_EQ(server.wait(), 0) << server.error();
  EXPECT_TRUE(wait_until("three here too", three_listen)) << ask(path, "status") << server.error();
  EXPECT_EQ(count_of(ask(path, "status"), R"("weight":7,)"), 1u) << ask(path, "status");
  EXPECT_EQ(server.end(), 0) << server.error();
}

TEST(UpgradeChain, primary_without_privileges_hands_over_to_one_that_does_without_them) {
  UpgradableServer server("reuseport", kAnyPort, kGood, true);
  UpgradeClients clients(server);
  server.upgrade();
  ASSERT_TRUE(server.wait_flag(kTookOver, 1));
  EXPECT_EQ(server.wait(), 0) << server.error();
  clients.more();
  clients.stop();
  EXPECT_EQ(server.end(), 0) << server.error();
}

/// Whose connection keeps it from leaving.
TEST(UpgradeChain, worker_that_is_killed_as_it_leaves_is_no_failure_of_the_old_primary) {
  UpgradableServer server("shared");
  Crowd crowd;
  crowd.connect(server.address(), 4);
  ASSERT_TRUE(wait_until(
      "the clients to be greeted", [&] { return crowd.greeted() == 4; }, &crowd))
      << crowd.describe();
  server.upgrade();
  ASSERT_TRUE(server.wait_flag(kTookOver, 1));
  for (auto& client : crowd) ::kill(client.worker_pid(), SIGKILL);
  EXPECT_EQ(server.wait(), 0) << server.error();
  EXPECT_EQ(server.end(), 0) << server.error();
}

TEST(UpgradeChain, connection_that_outlives_the_drain_deadline_is_cut_and_no_failure_of_the_old_primary) {
  UpgradableServer server("shared", kAnyPort, kGood, false, true);
  Crowd crowd;
  crowd.connect(server.address(), 1);
  ASSERT_TRUE(wait_until(
      "the client to be greeted", [&] { return crowd.greeted() == 1; }, &crowd));
  server.upgrade();
  EXPECT_EQ(server.wait(), 0) << server.error();
  EXPECT_TRUE(wait_until(
      "the client to be cut", [&] { return crowd.all(Client::State::lost); }, &crowd));
  EXPECT_EQ(server.end(), 0) << server.error();
}

/// Each can take none of those that wait, is told to leave, and is not told again.
TEST(UpgradeChain, workers_without_descriptors_leave_what_waits_to_the_next_primarys) {
  for (const char* policy : {"shared", "reuseport", "reuseport:hash"}) {
    SCOPED_TRACE(policy);
    UpgradableServer server(policy);
    const auto at = server.address();
    Crowd first;  // a sanitizer asks for descriptors when it sees a type for the first time
    first.connect(at, 8);
    first.ask_all();
    ASSERT_TRUE(wait_until(
        "the first clients", [&] { return first.all(Client::State::finished); }, &first));
    for (const pid_t worker : children(server.pid(), 0)) limit_descriptors(worker, 3);
    Crowd crowd;
    crowd.connect(at, 16);
    server.upgrade();
    ASSERT_TRUE(server.wait_flag(kTookOver, 1));
    crowd.ask_all();
    EXPECT_TRUE(wait_until(
        "the clients", [&] { return crowd.all(Client::State::finished); }, &crowd))
        << crowd.describe();
    EXPECT_EQ(server.wait(), 0) << server.error();
    EXPECT_EQ(server.end(), 0) << server.error();
  }
}

TEST(UpgradeChain, one_with_too_few_slots_is_refused) {
  const Folder folder;
  const auto path = folder.path("admin");
  const ScopedVariable named("LB_ADMIN_SOCKET", path.c_str());
  UpgradableServer server("reuseport", kAnyPort, kIsSmall);
  (void)server.address();
  server.signal(SIGHUP);  // the replacements are in slots 2 and 3
  ASSERT_TRUE(wait_until("the roll", [&] { return count_of(ask(path, "status"), R"("roll":{"state":"done")") == 1; }));
  server.upgrade();
  ASSERT_TRUE(server.wait_flag(kFailed, 1));
  EXPECT_TRUE(server.says("is no good")) << server.error();
  server.board().flag[kPid] = static_cast<uint32_t>(server.pid());
  server.end();
}

TEST(UpgradeRefused, primary_that_speaks_another_version_is_refused_and_both_are_named) {
  UpgradableServer server("shared", kAnyPort, kSpeaksAnother);
  (void)server.address();
  server.upgrade();
  ASSERT_TRUE(server.wait_flag(kFailed, 1));
  EXPECT_TRUE(server.says("it speaks version 99 of how one primary hands over to another, this one 1")) << server.error();
  server.board().flag[kPid] = static_cast<uint32_t>(server.pid());
  EXPECT_EQ(server.end(), 0) << server.error();
}

TEST(UpgradeChain, one_whose_predecessor_is_killed_meanwhile_goes_on) {
  for (const char* policy : {"shared", "reuseport", "round-robin"}) {
    SCOPED_TRACE(policy);
    UpgradableServer server(policy, kAnyPort, kIsSlow);
    const auto at = server.address();
    server.upgrade();
    ASSERT_TRUE(server.wait_flag(kAsking, kUpgradeWorkers));
    ::kill(server.pid(), SIGUSR1);  // by the time that it answers, it has told the new one what there is
    ASSERT_TRUE(wait_until("the old one's status", [&] { return server.says("policy "); }));
    ::kill(server.pid(), SIGKILL);
    EXPECT_EQ(server.wait(), 128 + SIGKILL);
    server.board().flag[kLetGo] = 1;
    ASSERT_TRUE(server.wait_flag(kTookOver, 1));
    Crowd crowd;
    crowd.connect(at, 20);
    crowd.ask_all();
    EXPECT_TRUE(wait_until(
        "the clients", [&] { return crowd.all(Client::State::finished); }, &crowd))
        << crowd.describe();
    EXPECT_EQ(server.end(), 0) << server.error();
  }
}

TEST(UpgradeRefused, program_that_cannot_be_executed_is_upgrades_own_error_and_another_begins_afterwards) {
  TestCluster cluster("shared");
  ASSERT_TRUE(cluster.start(1, Style::watch));
  EXPECT_EQ(cluster->upgrade({.path = "/no/such/program"}).error().code, ENOENT);
  EXPECT_EQ(cluster->upgrade({.path = "/etc/passwd"}).error().code, EACCES);
  EXPECT_EQ(cluster.count(Event::Kind::upgrade_begun), 0u);
  ASSERT_TRUE(cluster->upgrade({.path = "/bin/sleep", .args = {"1000"}}).ok());
  EXPECT_EQ(cluster->upgrade({.path = "/bin/sleep", .args = {"1000"}}).error().code, EALREADY);
  cluster->shutdown();
  EXPECT_EQ(cluster->upgrade().error().code, ESHUTDOWN);
  EXPECT_EQ(cluster.count(Event::Kind::upgrade_failed), 1u);
  ASSERT_TRUE(cluster.wait_until("all to leave", [&] { return cluster->done(); }));
  EXPECT_EQ(cluster->exit_code(), 0);
}

}  // namespace
}  // namespace lb::test
