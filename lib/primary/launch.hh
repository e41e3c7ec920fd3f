// SPDX-License-Identifier: MIT
#pragma once

#include <signal.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <lb/cluster.hh>

#include "sys/event_loop.hh"
#include "sys/process.hh"

namespace lb {

/// What to run, kept so that a replacement is started the same way.
struct Recipe {
  WorkerKind kind = WorkerKind::forked;
  WorkerFunction function{};       ///< forked, thread
  std::vector<std::string> env{};  ///< forked: added to its environment
  Command command{};               ///< command
  uint32_t generation = 1;         ///< counts the rolling restarts
  uint16_t weight = 1;             ///< Cluster::set_weight
  unsigned listens = 0;            ///< on how many endpoints such a worker came to listen
  bool drops_capabilities = false;
};

/// A worker that has been started, as the primary holds it.
class Life {
 public:
  virtual ~Life() = default;
  /// Readable once it has ended.
  virtual int exit_fd() const noexcept = 0;
  virtual pid_t pid() const noexcept = 0;
  /// EOPNOTSUPP where nothing can signal it alone.
  virtual Result<void> signal(int signal) noexcept = 0;
  /// Waits for its end and tells how it ended. Once.
  virtual Result<ExitStatus> reap() noexcept = 0;
  /// The same after its end, without waiting: empty as long as somebody else has the word of it.
  virtual Result<std::optional<ExitStatus>> try_reap() noexcept = 0;
};

/// How a new primary finds the one that it is to take over from.
inline constexpr const char* kUpgradeVariable = "LB_UPGRADE_FD";

/// Where a primary's admin socket is to be. Workers do not get it: a server that one of them starts, or is, would want the same.
inline constexpr const char* kAdminVariable = "LB_ADMIN_SOCKET";

/// The exit code of a worker that could not start, or threw (EX_SOFTWARE, sysexits.h).
inline constexpr int kExitStartFailed = 70;

/// A child process. If it cannot be held, it is killed and reaped.
Result<std::unique_ptr<Life>> hold_process(pid_t pid) noexcept;

/// Forks; the child calls `let_go`, which must close and unmap all that is the primary's, then runs the function and never returns
/// from here. `channel`: the worker's end.
Result<std::unique_ptr<Life>> launch_fork(uint32_t id, UniqueFd channel, const Recipe& recipe, const sigset_t& mask,
                                          EventLoop& loop, const std::function<void()>& let_go) noexcept;
/// Forks and executes; returns once execve(2) has succeeded, or its error and that of all that comes before it.
Result<std::unique_ptr<Life>> launch_command(uint32_t id, UniqueFd channel, const Recipe& recipe, const sigset_t& mask) noexcept;
/// Remembers where this program is, before somebody replaces its file: an empty Command::path means what is there then.
void note_own_program() noexcept;
/// The same for any program that is to get a channel: its number is in `channel_variable`, beside `env`, which is liblb's own.
/// `withheld`: a variable of this process that it does not get; null: it gets all.
Result<std::unique_ptr<Life>> execute(UniqueFd channel, const char* channel_variable, std::vector<std::string> env,
                                      const char* withheld, const Recipe& recipe, const sigset_t& mask) noexcept;
/// In a worker of this program: runs its function, which may move the Worker away, and says that the exit which follows is meant, if it
/// is. `farewell`: as the Worker ends. The exit code.
int run_function(std::unique_ptr<Worker::Impl> worker, const WorkerFunction& function, std::function<void()> farewell = {});
/// Starts a thread. Its Life, destroyed before it was reaped, leaves it to itself.
Result<std::unique_ptr<Life>> launch_thread(uint32_t id, UniqueFd channel, const Recipe& recipe) noexcept;
/// Makes a Worker of this very thread, which take_seat gives; it has ended once that is destroyed.
Result<std::unique_ptr<Life>> launch_seat(uint32_t id, UniqueFd channel) noexcept;
std::unique_ptr<Worker::Impl> take_seat(Life& life) noexcept;

/// EINVAL, naming what cannot be meant, for text that is not "NAME=value" or is liblb's own.
Result<void> validate_environment(const std::vector<std::string>& env) noexcept;

}  // namespace lb
