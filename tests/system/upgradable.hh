// SPDX-License-Identifier: MIT
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "contract.hh"

namespace lb::test {

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
  kCuts,        ///< 1: workers of the first that leave have no patience with their connections
};

enum Behaviour : uint32_t { kGood, kExits, kHangs, kWorkerFails, kAborts, kIsSlow, kSpeaksAnother, kIsSmall };

inline constexpr unsigned kUpgradeWorkers = 2;

/// A primary that behaves as the board says, with kUpgradeWorkers workers.
extern const PrimaryProgram kUpgradable;

/// A process's children, but for one (proc(5)).
std::vector<pid_t> children(pid_t of, pid_t but);

/// The first primary, and those that it hands over to.
class UpgradableServer {
 public:
  explicit UpgradableServer(const std::string& policy, const std::string& endpoint = kAnyPort, Behaviour next = kGood,
                            bool drops = false, bool cuts = false) {
    board_->flag[kNext] = next;
    board_->flag[kDrops] = drops ? 1 : 0;
    board_->flag[kCuts] = cuts ? 1 : 0;
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
  UpgradableServer(const UpgradableServer&) = delete;
  UpgradableServer& operator=(const UpgradableServer&) = delete;
  /// All of them, and their workers, end.
  ~UpgradableServer() {
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
    EXPECT_TRUE(wait_until("the workers to listen", [&] { return board_->port[1] != 0 && board_->port[kUpgradeWorkers] != 0; }))
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

/// UpgradeClients that come all the time; none may be lost or refused, but for those whom `kills` workers had accepted.
class UpgradeClients {
 public:
  static constexpr uint32_t kMost = 64 * Board::kNumbers;

  explicit UpgradeClients(UpgradableServer& server) : server_(server), load_({.to = to(server), .count = kMost, .at_once = 16}) {
    more();
  }
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
  static Endpoint to(UpgradableServer& server) {
    for (auto& times : server.board().served) times = 0;
    return server.address();
  }

  UpgradableServer& server_;
  Load load_;
};

}  // namespace lb::test
