// SPDX-License-Identifier: MIT
// A primary hands over to a new one that it executes: this program over again, which the board tells how to behave.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fcntl.h>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "contract.hh"
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
};

enum Behaviour : uint32_t { kGood, kExits, kHangs, kWorkerFails, kAborts, kIsSlow };

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
  Options options;
  options.workers = kWorkers;
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
    if (!listener) return how == kGood ? board.fail(listener.error().message()) : 0;  // killed while it asks
    return answer_all(worker, *listener, Style::watch, board);
  });
}

const PrimaryProgram kUpgradable("upgradable", be_primary);

/// The first primary, and those that it hands over to.
class Server {
 public:
  explicit Server(const std::string& policy, const std::string& endpoint = kAnyPort, Behaviour next = kGood) {
    board_->flag[kNext] = next;
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

/// Clients that come all the time; none may be lost or refused.
class Clients {
 public:
  explicit Clients(Server& server) : server_(server), load_({.to = server.address(), .count = Board::kNumbers, .at_once = 16}) {
    more();
  }
  /// Until 200 more have been served.
  void more() {
    const uint32_t from = load_.answered();
    EXPECT_TRUE(wait_until("clients to be served", [&] { return load_.answered() >= from + 200 || load_.over(); }))
        << load_.describe() << server_.error();
  }
  void stop() {
    load_.stop();
    EXPECT_TRUE(wait_until("the load to end", [&] { return load_.over(); }));
    EXPECT_LT(load_.started(), Board::kNumbers) << "the load was over before its end was asked for";
    EXPECT_EQ(load_.lost(), 0u) << load_.describe() << server_.error();
    EXPECT_EQ(load_.refused(), 0u) << load_.describe() << server_.error();
    EXPECT_EQ(server_.board().served_twice(), 0u);
    EXPECT_EQ(server_.board().failures, 0u) << server_.board().text.data();
  }

 private:
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
  EXPECT_TRUE(wait_until("the status", [&] { return server.says("policy " + policy); })) << server.error();
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
  ::kill(old, SIGUSR2);
  ASSERT_TRUE(server.wait_flag(kTookOver, 1));
  EXPECT_EQ(server.wait(), 0) << server.error();
  EXPECT_EQ(server.end(), 0) << server.error();
}

TEST(UpgradeChain, one_after_the_other_three_times) {
  Server server("reuseport");
  Clients clients(server);
  pid_t old = server.pid();
  for (uint32_t i = 1; i <= 3; ++i) {
    server.upgrade();
    ASSERT_TRUE(server.wait_flag(kTookOver, i));
    EXPECT_EQ(server.wait(old), 0) << server.error();
    old = server.newest();
    clients.more();
  }
  clients.stop();
  EXPECT_EQ(server.end(), 0) << server.error();
}

TEST(UpgradeChain, one_whose_predecessor_is_killed_meanwhile_goes_on) {
  for (const char* policy : {"shared", "reuseport", "round-robin"}) {
    SCOPED_TRACE(policy);
    Server server(policy, kAnyPort, kIsSlow);
    const auto at = server.address();
    server.upgrade();
    ASSERT_TRUE(server.wait_flag(kAsking, kWorkers));
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
