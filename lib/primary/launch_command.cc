// SPDX-License-Identifier: MIT
// A worker that is a program of its own. All that allocates happens before the fork: between it and execve(2) the child may be the
// copy of a process with threads, whose locks nobody will ever open, so it makes system calls and nothing else.
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "primary/launch.hh"
#include "sys/capabilities.hh"
#include "sys/error.hh"
#include "worker/environment.hh"

namespace lb {
namespace {

constexpr int kFirstFreeFd = 3;  // below are standard input, output and error
constexpr int kExitNotExecuted = 127;

enum class Step : int { stdio, channel, cwd, groups, gid, uid, capabilities, exec };

/// What the child says when it comes no further; it is in the pipe whole or not at all.
struct Failure {
  Step step;
  int code;
};

/// All that the child needs, ready to use.
struct Plan {
  std::string path;
  std::vector<std::string> texts;  // arguments, then environment
  std::vector<char*> argv;
  std::vector<char*> env;
  const Command* command;
  int channel;
  int report;
  sigset_t mask;
  bool drops_capabilities;
};

std::string own_name() {
  return program_invocation_name != nullptr && *program_invocation_name != '\0' ? program_invocation_name : "/proc/self/exe";
}

std::string g_own_program;

/// Where this program was started from, so that a newer one there takes effect; itself, if there is none any more.
std::string own_program() { return ::access(g_own_program.c_str(), X_OK) == 0 ? g_own_program : "/proc/self/exe"; }

bool same_name(std::string_view one, std::string_view other) {
  return one.substr(0, one.find('=')) == other.substr(0, other.find('='));
}

Plan make_plan(const Recipe& recipe, const char* channel_variable, const std::vector<std::string>& env, const char* withheld,
               int channel, int report, const sigset_t& mask) {
  const Command& command = recipe.command;
  std::string path = command.path.empty() ? own_program() : command.path;
  Plan plan{std::move(path), {}, {}, {}, &command, channel, report, mask, recipe.drops_capabilities};
  std::vector<std::string> added = command.env;
  added.insert(added.end(), env.begin(), env.end());
  added.push_back(std::string(channel_variable) + "=" + std::to_string(channel));
  plan.texts.push_back(command.path.empty() ? own_name() : command.path);
  plan.texts.insert(plan.texts.end(), command.args.begin(), command.args.end());
  const size_t arguments = plan.texts.size();
  auto overridden = [&](std::string_view text, size_t from) {
    for (size_t i = from; i < added.size(); ++i)
      if (same_name(text, added[i])) return true;
    return false;
  };
  for (char** text = environ; text != nullptr && *text != nullptr; ++text)
    if (!overridden(*text, 0) && (withheld == nullptr || !same_name(*text, withheld))) plan.texts.emplace_back(*text);
  for (size_t i = 0; i < added.size(); ++i)
    if (!overridden(added[i], i + 1)) plan.texts.push_back(added[i]);
  for (size_t i = 0; i < plan.texts.size(); ++i) (i < arguments ? plan.argv : plan.env).push_back(plan.texts[i].data());
  plan.argv.push_back(nullptr);
  plan.env.push_back(nullptr);
  return plan;
}

Result<void> validate(const Command& command) {
  if (auto valid = validate_environment(command.env); !valid) return valid;
  for (const auto* text : {&command.path, &command.cwd})
    if (text->find('\0') != std::string::npos) return Error{EINVAL, "spawn: path or cwd with a NUL in it"};
  for (const auto& text : command.args)
    if (text.find('\0') != std::string::npos) return Error{EINVAL, "spawn: an argument with a NUL in it"};
  for (const int fd : command.stdio)
    if (fd < -1)
      return error_naming(EINVAL, "spawn: stdio " + std::to_string(fd) + " (allowed: a descriptor, or -1: the primary's)");
  return {};
}

[[noreturn]] void fail(const Plan& plan, Step step) noexcept {
  const Failure failure{step, errno};
  (void)!::write(plan.report, &failure, sizeof failure);
  ::_exit(kExitNotExecuted);
}

/// First out of each other's way, then into place: what is to be input may be our output.
bool set_stdio(const std::array<int, 3>& stdio) noexcept {
  int moved[3] = {-1, -1, -1};
  for (size_t i = 0; i < 3; ++i)
    if (stdio[i] >= 0 && (moved[i] = ::fcntl(stdio[i], F_DUPFD_CLOEXEC, kFirstFreeFd)) < 0) return false;
  for (size_t i = 0; i < 3; ++i)
    if (moved[i] >= 0 && ::dup2(moved[i], static_cast<int>(i)) < 0) return false;
  return true;
}

/// Handlers do not outlive execve(2) anyway; until then they must not run here. What is ignored stays ignored.
void reset_handlers() noexcept {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    if (::sigaction(signal, nullptr, &action) != 0 || action.sa_handler == SIG_IGN || action.sa_handler == SIG_DFL) continue;
    action = {};
    action.sa_handler = SIG_DFL;
    ::sigaction(signal, &action, nullptr);
  }
}

/// The system calls themselves: the C library's functions would also tell threads that are not here.
bool drop_groups() noexcept {
  if (::syscall(SYS_setgroups, 0, nullptr) == 0) return true;
  return errno == EPERM && ::geteuid() != 0;  // not root: then it has no group that is more than its own
}
bool become(const Command& command, Step& step) noexcept {
  step = Step::groups;
  if ((command.gid || command.uid) && !drop_groups()) return false;
  step = Step::gid;
  if (command.gid && ::syscall(SYS_setresgid, *command.gid, *command.gid, *command.gid) != 0) return false;
  step = Step::uid;
  return !command.uid || ::syscall(SYS_setresuid, *command.uid, *command.uid, *command.uid) == 0;
}

[[noreturn]] void be_command(const Plan& plan) noexcept {
  reset_handlers();
  const Command& command = *plan.command;
  if (!set_stdio(command.stdio)) fail(plan, Step::stdio);
  if (::fcntl(plan.channel, F_SETFD, 0) != 0) fail(plan, Step::channel);
  if (!command.cwd.empty() && ::chdir(command.cwd.c_str()) != 0) fail(plan, Step::cwd);
  Step step{};
  if (!become(command, step)) fail(plan, step);
  if (plan.drops_capabilities && !drop_capabilities()) fail(plan, Step::capabilities);
  ::sigprocmask(SIG_SETMASK, &plan.mask, nullptr);
  ::execve(plan.path.c_str(), plan.argv.data(), plan.env.data());
  fail(plan, Step::exec);
}

Error describe(const Failure& failure, const Command& command) {
  switch (failure.step) {
    case Step::stdio:
      return error_naming(failure.code, "spawn: stdio " + std::to_string(command.stdio[0]) + ", " +
                                            std::to_string(command.stdio[1]) + ", " + std::to_string(command.stdio[2]));
    case Step::channel:
      return {failure.code, "spawn: control channel"};
    case Step::cwd:
      return error_naming(failure.code, "spawn: chdir " + command.cwd);
    case Step::groups:
      return {failure.code, "spawn: setgroups"};
    case Step::gid:
      return error_naming(failure.code, "spawn: setgid " + std::to_string(*command.gid));
    case Step::uid:
      return error_naming(failure.code, "spawn: setuid " + std::to_string(*command.uid));
    case Step::capabilities:
      return {failure.code, "spawn: drop of all capabilities"};
    case Step::exec:
      break;
  }
  return error_naming(failure.code, "spawn: exec " + (command.path.empty() ? "/proc/self/exe" : command.path));
}

/// Out of the way of standard input, output and error, should the primary have closed them.
Result<UniqueFd> clear_of_stdio(UniqueFd fd) noexcept {
  if (fd.get() >= kFirstFreeFd) return fd;
  UniqueFd moved(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstFreeFd));
  if (!moved) return last_error("spawn: F_DUPFD_CLOEXEC");
  return moved;
}

Result<std::pair<UniqueFd, UniqueFd>> make_report() noexcept {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return last_error("pipe2");
  UniqueFd read_end(ends[0]);
  auto write_end = clear_of_stdio(UniqueFd(ends[1]));
  if (!write_end) return write_end.error();
  return std::pair(std::move(read_end), std::move(*write_end));
}

}  // namespace

Result<std::unique_ptr<Life>> execute(UniqueFd channel, const char* channel_variable, std::vector<std::string> env,
                                      const char* withheld, const Recipe& recipe, const sigset_t& mask) noexcept try {
  const Command& command = recipe.command;
  if (auto valid = validate(command); !valid) return valid.error();
  auto end = clear_of_stdio(std::move(channel));
  if (!end) return end.error();
  auto report = make_report();
  if (!report) return report.error();
  const Plan plan = make_plan(recipe, channel_variable, env, withheld, end->get(), report->second.get(), mask);

  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // no handler of ours may run in the child
  const pid_t pid = ::fork();
  if (pid == 0) be_command(plan);
  const int fork_error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return Error{fork_error, "fork"};

  report->second.reset();
  Failure failure{};
  ssize_t got = 0;
  do {
    got = ::read(report->first.get(), &failure, sizeof failure);
  } while (got < 0 && errno == EINTR);
  if (got != sizeof failure) return hold_process(pid);  // the pipe closed: it runs (or was killed, which its exit will tell)
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return describe(failure, command);
} catch (...) {
  return Error{ENOMEM, "spawn"};
}

void note_own_program() noexcept try {
  if (!g_own_program.empty()) return;
  char path[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  if (length > 0 && static_cast<size_t>(length) < sizeof path) g_own_program.assign(path, static_cast<size_t>(length));
} catch (...) {  // then it is /proc/self/exe
}

Result<std::unique_ptr<Life>> launch_command(uint32_t id, UniqueFd channel, const Recipe& recipe, const sigset_t& mask) noexcept
    try {
  return execute(std::move(channel), kChannelVariable, {std::string(kWorkerIdVariable) + "=" + std::to_string(id)}, kAdminVariable,
                 recipe, mask);
} catch (...) {
  return Error{ENOMEM, "spawn"};
}

}  // namespace lb
