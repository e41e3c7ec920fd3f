// SPDX-License-Identifier: MIT
// Workers that are programs: what they are given, what they find, and what is said when they cannot be.
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "contract.hh"
#include "isolation.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

const Setting kCommand{"auto", WorkerKind::command};

void say(Board& board, const std::string& text) { std::snprintf(board.text.data(), board.text.size(), "%s", text.c_str()); }

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "(unset)";
}

const Program kTellEnvironment("tell environment", [](Worker&, Board& board, const std::string& name) {
  say(board, variable(name.c_str()));
  return 0;
});

/// Runs one worker to its end and gives what it says.
std::string told(const Command& command, const Shared<Board>& board) {
  TestCluster cluster(kCommand);
  const auto id = cluster->spawn(command);
  EXPECT_TRUE(id) << id.error().message();
  if (!id || !cluster.wait_exit(*id)) return "";
  EXPECT_EQ(cluster.event(Event::Kind::exit, *id)->exit_code, 0);
  return board->text.data();
}

/// Descriptors that a program started from here gets, each between blanks.
std::string inheritable() {
  std::string all = " ";
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const auto fd = entry.path().filename().string();
    if ((::fcntl(std::atoi(fd.c_str()), F_GETFD) & FD_CLOEXEC) == 0) all += fd + " ";
  }
  return all;
}

const Program kLookAround("look around", [](Worker& worker, Board& board, const std::string& before) {
  if (!is_worker()) return board.fail("is_worker() is false in a worker");
  if (worker.id() != 1) return board.fail("id " + std::to_string(worker.id()));
  for (const char* name : {"LB_WORKER_ID", "LB_CHANNEL_FD"}) {
    if (std::getenv(name) != nullptr) return board.fail(std::string(name) + " is still in the environment");
  }
  // NOLINTNEXTLINE: a shell is the grandchild that the test wants
  if (std::system("test -z \"$LB_WORKER_ID$LB_CHANNEL_FD\"") != 0) return board.fail("a grandchild has the variables");
  if (inheritable() != before) return board.fail("a grandchild would get descriptors" + inheritable());
  const auto again = Worker::from_environment();
  if (again || again.error().code != ENOENT) return board.fail("a second from_environment");
  return 0;
});

TEST(CommandWorker, N1_worker_knows_that_it_is_one_and_its_grandchildren_are_not) {
  EXPECT_FALSE(is_worker());
  TestCluster cluster(kCommand);
  ASSERT_TRUE(cluster.spawn(kLookAround, inheritable()));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.board().failures, 0u) << cluster.board().text.data();
  EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->exit_code, 0);
  EXPECT_TRUE(cluster.event(Event::Kind::exit, 1)->expected);
}

TEST(CommandWorker, N1_forked_worker_knows_that_it_is_one) {
  TestCluster cluster("auto");
  ASSERT_TRUE(cluster->spawn([](Worker&) { return is_worker() ? 0 : 3; }));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->exit_code, 0);
}

TEST(CommandWorker, admin_socket_of_its_own_is_its_to_have_when_it_is_named_for_it) {
  const Shared<Board> board;
  const ScopedVariable ours("LB_ADMIN_SOCKET", "@lb-command-test");
  auto command = kTellEnvironment.command(board, "LB_ADMIN_SOCKET");
  EXPECT_EQ(told(command, board), "(unset)");
  command.env.push_back("LB_ADMIN_SOCKET=@another");
  EXPECT_EQ(told(command, board), "@another");
}

/// What from_environment says of these variables; empty: leave it out.
void expect_no_worker_with(const std::string& id, const std::string& channel) {
  in_child([&] {
    if (!id.empty()) ::setenv("LB_WORKER_ID", id.c_str(), 1);
    if (!channel.empty()) ::setenv("LB_CHANNEL_FD", channel.c_str(), 1);
    const auto worker = Worker::from_environment();
    ASSERT_FALSE(worker);
    const auto message = worker.error().message();
    const auto& wrong = id.empty() ? "LB_WORKER_ID" : channel.empty() ? "LB_CHANNEL_FD" : id == "1" ? channel : id;
    EXPECT_NE(message.find(wrong), std::string::npos) << message;
    EXPECT_EQ(std::getenv("LB_WORKER_ID"), nullptr);
    EXPECT_EQ(std::getenv("LB_CHANNEL_FD"), nullptr);
  });
}

TEST(FromEnvironment, N1_without_a_cluster_is_enoent_that_says_so) {
  const auto worker = Worker::from_environment();
  ASSERT_FALSE(worker);
  EXPECT_EQ(worker.error().code, ENOENT);
  EXPECT_NE(worker.error().message().find("no cluster"), std::string::npos) << worker.error().message();
}

TEST(FromEnvironment, N1_nonsense_is_an_error_that_names_it) {
  for (const char* id : {"x", "0", "-1", "4294967296", "1 "}) expect_no_worker_with(id, "5");
  for (const char* channel : {"x", "-3", "2147483648", "987654", "0x3"}) expect_no_worker_with("1", channel);
  expect_no_worker_with("", "5");
  expect_no_worker_with("1", "");
}

TEST(FromEnvironment, N1_descriptor_that_is_no_channel_is_refused_and_left_alone) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd one(pair[0]);
  const UniqueFd other(pair[1]);
  expect_no_worker_with("1", std::to_string(one.get()));
  const ScopedVariable id("LB_WORKER_ID", "1");
  const ScopedVariable channel("LB_CHANNEL_FD", std::to_string(one.get()).c_str());
  EXPECT_EQ(Worker::from_environment().error().code, EPROTOTYPE);
  EXPECT_GE(::fcntl(one.get(), F_GETFD), 0) << "it was closed";
}

TEST(CommandWorker, N2_env_is_added_and_overrides_the_primarys_for_commands_and_forks) {
  const ScopedVariable kept("LB_TEST_KEPT", "from the primary");
  const ScopedVariable changed("LB_TEST_CHANGED", "from the primary");
  for (const auto& [name, value] :
       {std::pair{"LB_TEST_KEPT", "from the primary"}, {"LB_TEST_CHANGED", "a=b"}, {"LB_TEST_NEW", ""}}) {
    const Shared<Board> board;
    auto command = kTellEnvironment.command(board, name);
    command.env = {"LB_TEST_CHANGED=first", "LB_TEST_CHANGED=a=b", "LB_TEST_NEW="};
    EXPECT_EQ(told(command, board), value) << name;

    TestCluster cluster("auto");
    ASSERT_TRUE(cluster->spawn(kTellEnvironment.function(cluster.board(), name), command.env));
    ASSERT_TRUE(cluster.wait_exit(1));
    EXPECT_EQ(std::string(cluster.board().text.data()), value) << name;
  }
  EXPECT_EQ(variable("LB_TEST_CHANGED"), "from the primary");
  EXPECT_EQ(variable("LB_TEST_NEW"), "(unset)");
}

TEST(CommandWorker, N2_env_that_is_not_name_value_is_einval_that_names_it) {
  TestCluster cluster(kCommand);
  for (const char* wrong : {"LB_TEST", "=x", "", "LB_WORKER_ID=7", "LB_CHANNEL_FD=7"}) {
    Command command;
    command.env = {wrong};
    for (const auto& refused : {cluster->spawn(command), cluster->spawn([](Worker&) { return 0; }, {wrong})}) {
      EXPECT_EQ(refused.error().code, EINVAL) << wrong;
      EXPECT_NE(refused.error().message().find(std::string("\"") + wrong), std::string::npos) << refused.error().message();
    }
  }
  EXPECT_TRUE(cluster->done());
}

const Program kTellIdentity("tell identity", [](Worker&, Board& board, const std::string&) {
  say(board, std::to_string(::getuid()) + " " + std::to_string(::geteuid()) + " " + std::to_string(::getgid()) + " " +
                 std::to_string(::getegid()) + " " + std::to_string(::getgroups(0, nullptr)) + " " +
                 std::filesystem::current_path().string());
  return 0;
});

TEST(CommandWorker, N3_settings_may_change_from_spawn_to_spawn) {
  const auto here = std::filesystem::current_path().string();
  const auto me = std::to_string(::getuid()) + " " + std::to_string(::geteuid()) + " " + std::to_string(::getgid()) + " " +
                  std::to_string(::getegid()) + " ";
  const Shared<Board> board;
  auto command = kTellIdentity.command(board);
  EXPECT_EQ(told(command, board), me + std::to_string(::getgroups(0, nullptr)) + " " + here);
  command.cwd = "/usr";
  EXPECT_EQ(told(command, board), me + std::to_string(::getgroups(0, nullptr)) + " /usr");
  command.cwd = "";
  EXPECT_EQ(told(command, board), me + std::to_string(::getgroups(0, nullptr)) + " " + here);
}

TEST(CommandWorker, N3_uid_and_gid_take_effect_and_drop_the_groups) {
  if (::geteuid() != 0) LB_SKIP_UNPRIVILEGED("setuid");
  const Shared<Board> board;
  auto command = kTellIdentity.command(board);
  command.cwd = "/";
  command.uid = 65534;
  command.gid = 12345;
  EXPECT_EQ(told(command, board), "65534 65534 12345 12345 0 /");
}

TEST(CommandWorker, N3_worker_of_another_user_serves) {
  if (::geteuid() != 0) LB_SKIP_UNPRIVILEGED("setuid");
  for (const char* policy : kPolicies) {
    TestCluster cluster(policy);
    auto command = kAnswering.command(cluster.shared_board(), answering_argument(Style::watch));
    command.uid = 65534;
    command.gid = 65534;
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(cluster->spawn(command));
    ASSERT_TRUE(cluster.wait_until("the workers", [&] { return cluster.count(Event::Kind::listening) == 2; })) << policy;
    Crowd crowd;
    crowd.connect(cluster.address(), 20);
    crowd.ask_all();
    EXPECT_TRUE(cluster.wait_finished(crowd)) << policy;
    cluster.expect_clean_shutdown();
  }
}

const Program kWrite("write", [](Worker&, Board&, const std::string&) {
  (void)!::write(STDOUT_FILENO, "out", 3);
  (void)!::write(STDERR_FILENO, "err", 3);
  return 0;
});

std::string read_all(int fd) {
  std::array<char, 64> buffer{};
  std::string text;
  for (ssize_t n = 0; (n = ::read(fd, buffer.data(), buffer.size())) > 0;) text.append(buffer.data(), static_cast<size_t>(n));
  return text;
}

TEST(CommandWorker, N3_stdio_goes_where_it_is_told_and_may_be_swapped) {
  int out[2];
  int err[2];
  ASSERT_EQ(::pipe2(out, O_CLOEXEC), 0);
  ASSERT_EQ(::pipe2(err, O_CLOEXEC), 0);
  const UniqueFd out_read(out[0]);
  const UniqueFd err_read(err[0]);
  UniqueFd out_write(out[1]);
  UniqueFd err_write(err[1]);
  const Shared<Board> board;
  auto command = kWrite.command(board);
  command.stdio = {board.fd(), out_write.get(), err_write.get()};
  told(command, board);
  // Our own 1 and 2, the other way round: each would overwrite the other.
  std::fflush(nullptr);
  const UniqueFd own_out(::fcntl(1, F_DUPFD_CLOEXEC, 3));
  const UniqueFd own_err(::fcntl(2, F_DUPFD_CLOEXEC, 3));
  ::dup2(out_write.get(), 1);
  ::dup2(err_write.get(), 2);
  command.stdio = {board.fd(), 2, 1};
  told(command, board);
  std::fflush(nullptr);
  ::dup2(own_out.get(), 1);
  ::dup2(own_err.get(), 2);
  out_write.reset();
  err_write.reset();
  EXPECT_EQ(read_all(out_read.get()), "outerr");
  EXPECT_EQ(read_all(err_read.get()), "errout");
}

struct Impossible {
  const char* what;
  Command command;
  int code;
  const char* named;
};

TEST(CommandWorker, N3_program_that_cannot_be_started_is_the_spawns_error_with_errno_and_path) {
  Command closed;
  closed.stdio = {-1, 987654, -1};
  Command nowhere;
  nowhere.cwd = "/no/such/folder";
  const Impossible all[] = {
      {"missing", {.path = "/no/such/program"}, ENOENT, "exec /no/such/program"},
      {"no program", {.path = "/proc/self/environ"}, EACCES, "exec /proc/self/environ"},
      {"folder", {.path = "/"}, EACCES, "exec /"},
      {"folder to start in", nowhere, ENOENT, "chdir /no/such/folder"},
      {"descriptor", closed, EBADF, "stdio -1, 987654, -1"},
  };
  TestCluster cluster(kCommand);
  for (const auto& one : all) {
    const auto refused = cluster->spawn(one.command);
    ASSERT_FALSE(refused) << one.what;
    EXPECT_EQ(refused.error().code, one.code) << one.what;
    EXPECT_NE(refused.error().message().find(one.named), std::string::npos) << refused.error().message();
  }
  ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
  EXPECT_TRUE(cluster.events().empty()) << "a crash loop:" << cluster.describe();
  EXPECT_TRUE(cluster->done());
  EXPECT_EQ(cluster->exit_code(), 0);
}

TEST(CommandWorker, N3_uid_that_may_not_be_had_is_eperm) {
  in_child([] {
    if (::geteuid() == 0 && (::setgroups(0, nullptr) != 0 || ::setuid(65534) != 0)) return;
    TestCluster cluster(kCommand);
    Command command;
    command.path = "/bin/true";
    command.uid = 1;
    const auto refused = cluster->spawn(command);
    EXPECT_EQ(refused.error().code, EPERM);
    EXPECT_NE(refused.error().message().find("setuid 1"), std::string::npos) << refused.error().message();
  });
}

TEST(CommandWorker, is_spawned_from_a_process_with_busy_threads) {
  TestCluster cluster(kCommand);
  std::atomic<bool> stop{false};
  std::vector<std::thread> busy;
  for (int i = 0; i < 3; ++i) {
    busy.emplace_back([&] {
      while (!stop) {
        const std::string text(1000, 'x');  // takes the allocator's locks, and the environment's
        if (text.size() + (std::getenv("LB_TEST_NONE") != nullptr ? 1U : 0U) != 1000) std::abort();
      }
    });
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(cluster->spawn(Command{.path = "/no/such/program"}).error().code, ENOENT);
    const auto id = cluster.spawn(kTellEnvironment, "PATH");
    EXPECT_TRUE(id && cluster.wait_exit(*id));
    EXPECT_TRUE(cluster.event(Event::Kind::exit, *id)->expected);
  }
  stop = true;
  for (auto& thread : busy) thread.join();
}

const Program kExitsWith("exit", [](Worker&, Board&, const std::string& code) -> int { ::exit(std::atoi(code.c_str())); });

TEST(CommandWorker, exit_while_its_worker_lives_is_a_crash_whatever_the_code) {
  for (const char* code : {"0", "5"}) {
    TestCluster cluster(kCommand, {.respawn = false});
    ASSERT_TRUE(cluster.spawn(kExitsWith, code));
    ASSERT_TRUE(cluster.wait_exit(1));
    EXPECT_FALSE(cluster.event(Event::Kind::exit, 1)->expected) << code;
    EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->exit_code, std::atoi(code));
    EXPECT_EQ(cluster->exit_code(), 1);
  }
}

TEST(CommandWorker, program_that_is_no_worker_is_told_by_its_exit) {
  TestCluster cluster(kCommand);
  ASSERT_TRUE(cluster->spawn(Command{.path = "/bin/true"}));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.event(Event::Kind::online, 1), nullptr);
  EXPECT_NE(cluster.event(Event::Kind::disconnected, 1), nullptr);
  EXPECT_FALSE(cluster.event(Event::Kind::exit, 1)->expected) << "it has not said that it means to";
}

const Program kTellSignals("tell signals", [](Worker&, Board& board, const std::string&) {
  sigset_t blocked;
  ::sigprocmask(SIG_BLOCK, nullptr, &blocked);
  for (int signal = 1; signal < SIGRTMIN; ++signal) {
    if (::sigismember(&blocked, signal) == 1) return board.fail("blocked: signal " + std::to_string(signal));
  }
  struct sigaction action {};
  ::sigaction(SIGPIPE, nullptr, &action);
  if (action.sa_handler != SIG_IGN) return board.fail("SIGPIPE kills");
  ::raise(SIGINT);
  return 0;
});

TEST(CommandWorker, has_the_signals_of_a_forked_worker) {
  TestCluster cluster(kCommand);
  ASSERT_TRUE(cluster.spawn(kTellSignals));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->signal, 0);
  EXPECT_EQ(cluster.board().failures, 0u) << cluster.board().text.data();
}

}  // namespace
}  // namespace lb::test
