// SPDX-License-Identifier: MIT
// A primary hands over to a new one that it executes: this program over again, which the board tells how to behave.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>

#include "contract.hh"
#include "isolation.hh"
#include "refusal.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

/// Board flags.
enum Flag : size_t {
  kPrimaries,   ///< how many have started
  kPid,         ///< of the newest
  kTookOver,    ///< how many have taken over
  kFailed,      ///< upgrades that came to nothing
  kNext,        ///< how those to come behave: Behaviour
  kNextPolicy,  ///< and their policy: index in kPolicies, plus 1
  kAsking,      ///< workers of theirs that are about to listen
  kLetGo,       ///< slow ones go on
  kDrops,       ///< 1: every primary drops its privileges once it has started
  kCuts,        ///< 1: workers that leave have no patience with their connections
};

enum Behaviour : uint32_t { kGood, kExits, kHangs, kWorkerFails, kAborts, kIsSlow, kSpeaksAnother, kIsSmall };

constexpr unsigned kWorkers = 2;
constexpr std::chrono::milliseconds kShort{2000};  // the deadline of an upgrade that is to miss it

int be_primary(Board& board, const std::string& endpoint) {
  const bool next = std::getenv("LB_UPGRADE_FD") != nullptr;
  const auto how = next ? static_cast<Behaviour>(board.flag[kNext].load()) : kGood;
  board.flag[kPid] = static_cast<uint32_t>(::getpid());
  ++board.flag[kPrimaries];
  if (next && board.flag[kNextPolicy] != 0) ::setenv("LB_SCHED_POLICY", kPolicies[board.flag[kNextPolicy] - 1], 1);
  if (how == kExits) return 1;
  if (how == kHangs) {
    for (;;) ::pause();
  }
  if (how == kSpeaksAnother) {
    const char message[256] = {99};  // the version comes first
    (void)!::send(std::atoi(std::getenv("LB_UPGRADE_FD")), message, sizeof message, 0);
    for (;;) ::pause();
  }
  Options options;
  options.workers = how == kIsSmall ? 1 : kWorkers;
  if (how == kIsSmall) options.workers_max = 1;
  if (board.flag[kDrops] != 0) options.privileges = Options::Privileges::all_drop;
  if (board.flag[kCuts] != 0) options.drain_deadline = std::chrono::milliseconds(50);
  if (board.flag[kNext] == kHangs) options.upgrade_deadline = kShort;
  options.on_event = [&board, how](const Event& event) {
    if (event.kind == Event::Kind::took_over) ++board.flag[kTookOver];
    if (event.kind == Event::Kind::upgrade_failed) ++board.flag[kFailed];
    if (event.kind == Event::Kind::listening && how == kAborts) ::kill(::getpid(), SIGKILL);
  };
  return lb::run(options, [&, how](Worker& worker) {
    if (how == kWorkerFails && worker.id() == 2) return 9;
    if (next) ++board.flag[kAsking];
    while (how == kIsSlow && worker.id() == 2 && board.flag[kLetGo] == 0) ::usleep(1000);
    auto listener = worker.listen(endpoint);
    if (!listener && how == kIsSmall) return 9;
    if (!listener && (how != kGood || listener.error().code == ESHUTDOWN)) return 0;  // killed while it asks; it came too late
    if (!listener) return board.fail(listener.error().message());
    return answer_all(worker, *listener, Style::watch, board);
  });
}

const PrimaryProgram kUpgradable("upgradable", be_primary);

/// The first primary, and those that it hands over to.
class Server {
 public:
  explicit Server(const std::string& policy, const std::string& endpoint = kAnyPort, Behaviour next = kGood, bool drops = false) {
    board_->flag[kNext] = next;
    board_->flag[kDrops] = drops ? 1 : 0;
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    error_.reset(ends[0]);
    const UniqueFd write_end(ends[1]);
    const auto texts = kUpgradable.argv(endpoint);
    std::vector<char*> argv;
    for (const auto& text : texts) argv.push_back(const_cast<char*>(text.c_str()));
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::setenv("LB_SCHED_POLICY", policy.c_str(), 1);
    ::dup2(board_.fd(), STDIN_FILENO);
    ::dup2(write_end.get(), STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  /// All of them, and their workers, end.
  ~Server() {
    for (const pid_t pid : {pid_, newest()})
      if (pid > 0) ::kill(pid, SIGKILL);
    EXPECT_TRUE(wait_until("all processes to end", [] {
      while (::waitpid(-1, nullptr, WNOHANG) > 0) {
      }
      return ::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD;
    })) << error();
  }

  Board& board() noexcept { return *board_; }
  pid_t pid() const noexcept { return pid_; }
  pid_t newest() noexcept { return static_cast<pid_t>(board_->flag[kPid].load()); }
  void upgrade() { signal(SIGUSR2); }
  void signal(int number) {
    const pid_t pid = newest();
    ASSERT_GT(pid, 0);
    ::kill(pid, number);
  }

  Endpoint address() {
    EXPECT_TRUE(wait_until("the workers to listen", [&] { return board_->port[1] != 0 && board_->port[kWorkers] != 0; }))
        << error();
    return Endpoint::parse("tcp://127.0.0.1:" + std::to_string(board_->port[1])).value();
  }
  bool wait_flag(Flag flag, uint32_t count) {
    const bool came = wait_until("the upgrade", [&] { return board_->flag[flag] >= count; });
    EXPECT_TRUE(came) << error();
    return came;
  }
  /// A primary's exit code; 128 + the signal that ended it.
  int wait(pid_t pid) {
    int status = 0;
    EXPECT_TRUE(wait_until("a primary to end", [&] { return ::waitpid(pid, &status, WNOHANG) == pid; })) << error();
    if (pid == pid_) pid_ = -1;
    if (pid == newest()) board_->flag[kPid] = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  int wait() { return wait(pid_); }
  int end() {
    const pid_t last = newest();
    signal(SIGTERM);
    return wait(last);
  }

  const std::string& error() {
    std::array<char, 4096> buffer{};
    for (ssize_t n = 0; (n = ::read(error_.get(), buffer.data(), buffer.size())) > 0;) {
      text_.append(buffer.data(), static_cast<size_t>(n));
    }
    return text_;
  }
  bool says(const std::string& part) { return error().find(part) != std::string::npos; }

 private:
  Shared<Board> board_;
  pid_t pid_ = -1;
  UniqueFd error_;
  std::string text_;
};

/// Clients that come all the time; none may be lost or refused, but for those whom `kills` workers had accepted.
class Clients {
 public:
  static constexpr uint32_t kMost = 64 * Board::kNumbers;

  explicit Clients(Server& server) : server_(server), load_({.to = to(server), .count = kMost, .at_once = 16}) { more(); }
  /// Until 200 more have been served.
  void more() {
    const uint32_t from = load_.answered();
    EXPECT_TRUE(wait_until("clients to be served", [&] { return load_.answered() >= from + 200 || load_.over(); }))
        << load_.describe() << server_.error();
  }
  uint32_t answered() const { return load_.answered(); }
  uint32_t failed() const { return load_.lost() + load_.refused(); }
  void stop(unsigned kills = 0) {
    load_.stop();
    EXPECT_TRUE(wait_until("the load to end", [&] { return load_.over(); }));
    EXPECT_LT(load_.started(), kMost) << "the load was over before its end was asked for";
    EXPECT_LE(load_.lost_unheard(), kills) << load_.describe() << server_.error();  // accepted, and not yet greeted
    EXPECT_TRUE(kills != 0 || load_.lost() == 0) << load_.describe() << server_.error();
    EXPECT_EQ(load_.refused(), 0u) << load_.describe() << server_.error();
    EXPECT_EQ(server_.board().served_twice(load_.started()), 0u);
    EXPECT_EQ(server_.board().failures, 0u) << server_.board().text.data();
  }

 private:
  /// Who counted before counts no more.
  static Endpoint to(Server& server) {
    for (auto& times : server.board().served) times = 0;
    return server.address();
  }

  Server& server_;
  Load load_;
};

class Upgrade : public PolicyTest {};
LB_FOR_EVERY_POLICY(Upgrade);

TEST_P(Upgrade, sigusr2_under_load_hands_over_and_no_connection_is_lost) {
  Server server(policy());
  Clients clients(server);
  server.upgrade();
  ASSERT_TRUE(server.wait_flag(kTookOver, 1));
  EXPECT_EQ(server.wait(), 0) << server.error();
  clients.more();
  clients.stop();
  EXPECT_TRUE(server.says("has taken over")) << server.error();
  EXPECT_EQ(server.end(), 0) << server.error();
}

/// Every ordered pair of backends.
class UpgradeTo : public testing::TestWithParam<std::pair<uint32_t, uint32_t>> {};
INSTANTIATE_TEST_SUITE_P(every, UpgradeTo,
                         testing::Values(std::pair(0, 1), std::pair(0, 5), std::pair(1, 0), std::pair(1, 5), std::pair(5, 0),
                                         std::pair(5, 1), std::pair(3, 0)),
                         [](const auto& pair) {
                           return test_name(std::string(kPolicies[pair.param.first]) + "_to_" + kPolicies[pair.param.second]);
                         });

TEST_P(UpgradeTo, another_policy_under_load_loses_no_connection) {
  Server server(kPolicies[GetParam().first]);
  server.board().flag[kNextPolicy] = GetParam().second + 1;
  Clients clients(server);
  server.upgrade();
  ASSERT_TRUE(server.wait_flag(kTookOver, 1));
  EXPECT_EQ(server.wait(), 0) << server.error();
  clients.more();
  clients.stop();
  server.signal(SIGUSR1);
  const std::string policy = Policy::parse(kPolicies[GetParam().second])->to_string();
  const std::string backend = policy.substr(0, policy.find(':'));  // not every build has every selector
  EXPECT_TRUE(wait_until("the status", [&] { return server.says("policy " + backend); })) << server.error();
  EXPECT_EQ(server.end(), 0) << server.error();
}

/// A new program that is no good.
class UpgradeFails : public testing::TestWithParam<std::tuple<const char*, Behaviour>> {};
constexpr const char* kBehaviours[] = {"good", "exits", "hangs", "worker_fails", "aborts_as_its_workers_listen", "slow"};
INSTANTIATE_TEST_SUITE_P(
    every, UpgradeFails,
    testing::Combine(testing::Values("shared", "reuseport", "reuseport:random", "reuseport:hash", "round-robin"),
                     testing::Values(kExits, kHangs, kWorkerFails, kAborts)),
    [](const auto& setting) {
      return test_name(std::string(std::get<0>(setting.param)) + "_" + kBehaviours[std::get<1>(setting.param)]);
    });

TEST_P(UpgradeFails, and_the_old_one_serves_on_without_a_loss) {
  const auto [policy, next] = GetParam();
  Server server(policy, kAnyPort, next);
  const pid_t old = server.pid();
  {
    (void)server.address();
    std::optional<Clients> clients;
    if (next != kHangs) clients.emplace(server);  // that one takes longer than a load lasts
    server.upgrade();
    ASSERT_TRUE(server.wait_flag(kFailed, 1));
    if (!clients) clients.emplace(server);
    clients->more();
    clients->stop();
  }
  EXPECT_TRUE(server.says("is no good")) << server.error();
  // And a good one is as welcome as ever.
  server.board().flag[kNext] = kGood;
  uint32_t failed = 0;
  ASSERT_TRUE(wait_until("the upgrade", [&] {
    if (server.board().flag[kTookOver] != 0) return true;
    const uint32_t now = server.board().flag[kFailed];  // again, if a busy machine takes longer than the short deadline
    if (failed != now) ::kill(old, SIGUSR2);
    failed = now;
    return false;
  })) << server.error();
  EXPECT_EQ(server.wait(), 0) << server.error();
  EXPECT_EQ(server.end(), 0) << server.error();
}

/// LB_UPGRADES: how many, for a longer run than the tests' own.
unsigned upgrades() {
  const char* many = std::getenv("LB_UPGRADES");
  return many != nullptr ? static_cast<unsigned>(std::max(1, std::atoi(many))) : 2;
}

class UpgradeAgain : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(every, UpgradeAgain, testing::Values("shared", "reuseport", "reuseport:hash", "round-robin"),
                         [](const auto& policy) { return test_name(policy.param); });

TEST_P(UpgradeAgain, and_again_under_load_loses_no_connection) {
  Server server(GetParam());
  pid_t old = server.pid();
  unsigned answered = 0;
  unsigned failed = 0;
  for (uint32_t i = 1; i <= upgrades(); ++i) {
    Clients clients(server);
    server.upgrade();
    ASSERT_TRUE(server.wait_flag(kTookOver, i));
    EXPECT_EQ(server.wait(old), 0) << server.error();
    old = server.newest();
    clients.more();
    clients.stop();
    answered += clients.answered();
    failed += clients.failed();
  }
  std::printf("%s: %u upgrades, %u connections, %u lost or refused\n", GetParam(), upgrades(), answered, failed);
  EXPECT_EQ(server.end(), 0) << server.error();
}

/// A process's children, but for one (proc(5)).
std::vector<pid_t> children(pid_t of, pid_t but) {
  std::vector<pid_t> all;
  std::ifstream file("/proc/" + std::to_string(of) + "/task/" + std::to_string(of) + "/children");
  for (pid_t pid = 0; file >> pid;)
    if (pid != but) all.push_back(pid);
  return all;
}

TEST_P(UpgradeAgain, while_workers_are_killed_loses_only_what_they_had_accepted) {
  Server server(GetParam());
  unsigned kills = 0;
  const auto kill_one = [&](pid_t of) {
    const auto workers = children(of, server.newest());
    if (workers.empty()) return;
    ::kill(workers.front(), SIGKILL);
    ++kills;
    EXPECT_TRUE(wait_until("the killed worker to be missed", [&] {
      const auto left = children(of, server.newest());
      return std::find(left.begin(), left.end(), workers.front()) == left.end();
    }));
  };
  const pid_t old = server.pid();
  Clients clients(server);
  server.upgrade();
  kill_one(old);
  ASSERT_TRUE(server.wait_flag(kAsking, kWorkers));
  kill_one(old);
  ASSERT_TRUE(server.wait_flag(kTookOver, 1));
  kill_one(server.newest());
  clients.more();
  kill_one(server.newest());
  clients.more();
  clients.stop(kills);
  EXPECT_GE(kills, 3u);
  EXPECT_EQ(server.wait(old), 0) << server.error();
  EXPECT_EQ(server.end(), 0) << server.error();
}

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
  Server server("reuseport");
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
  Server server("reuseport", kAnyPort, kGood, true);
  Clients clients(server);
  server.upgrade();
  ASSERT_TRUE(server.wait_flag(kTookOver, 1));
  EXPECT_EQ(server.wait(), 0) << server.error();
  clients.more();
  clients.stop();
  EXPECT_EQ(server.end(), 0) << server.error();
}

/// Whose connection keeps it from leaving.
TEST(UpgradeChain, worker_that_is_killed_as_it_leaves_is_no_failure_of_the_old_primary) {
  Server server("shared");
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
  Server server("shared");
  server.board().flag[kCuts] = 1;
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
    Server server(policy);
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
  Server server("reuseport", kAnyPort, kIsSmall);
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
  Server server("shared", kAnyPort, kSpeaksAnother);
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
    Server server(policy, kAnyPort, kIsSlow);
    const auto at = server.address();
    server.upgrade();
    ASSERT_TRUE(server.wait_flag(kAsking, kWorkers));
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
