// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <lb/export.hh>
#include <lb/policy.hh>
#include <lb/result.hh>
#include <lb/status.hh>
#include <lb/worker.hh>

namespace lb {

/// What a worker runs; its return value is the worker's exit code. Return once `Listener::accept` is empty or the worker drains.
using WorkerFunction = std::function<int(Worker&)>;

/// Something that happened to a worker. Order for one worker: online, listening (once for each endpoint), draining, exit.
struct Event {
  enum class Kind {
    online,       ///< the worker runs and has reached the primary
    listening,    ///< it listens on `endpoint`; connections are routed to it from now on
    draining,     ///< it was told to finish
    exit,         ///< it is gone: `exit_code`, or `signal` when one killed it; `expected` tells leaving from crashing
    crash_loop,   ///< it crashed so often that respawning now waits `backoff`
  };
  Kind kind{};
  uint32_t worker = 0;  ///< worker id
  pid_t pid = 0;
  int exit_code = 0;
  int signal = 0;
  bool expected = false;
  std::chrono::milliseconds backoff{0};
  const EndpointStatus* endpoint = nullptr;  ///< for listening: address, requested and effective policy, reason
};

struct Options {
  /// How many workers `run` starts; 0: one for each CPU that this process may use (sched_getaffinity(2)).
  unsigned workers = 0;
  /// The policy when LB_SCHED_POLICY is unset.
  Policy policy{};
  /// Replace a worker that crashed, at once at first, then with growing pauses up to 10 s. Not before any worker has come as far
  /// as listening: a server that cannot start says why and ends.
  bool respawn = true;
  /// How long a draining worker may take before SIGKILL ends it.
  std::chrono::milliseconds drain_deadline{30'000};
  /// Round-robin: how many handed-off connections a worker may hold that it has not yet taken (1..32).
  unsigned window = 8;
  /// Round-robin: how many connections the primary holds before it leaves the rest in the kernel's queue. One turn's burst,
  /// which io_uring accepts at once, may exceed it.
  unsigned queue_max = 1024;
  /// Called in the primary, from `run` or `poll`. It must not call back into the Cluster.
  std::function<void(const Event&)> on_event{};
};

LB_API int run(Options options, WorkerFunction worker) noexcept;

/// The primary: owns the listening sockets and supervises the workers. Single-threaded; used by the process that made it.
class LB_API Cluster {
 public:
  class Impl;

  /// Reads LB_SCHED_POLICY and LB_STRICT; starts nothing. EINVAL for an unknown policy or an option out of range.
  /// Also takes what systemd passes to a service (sd_listen_fds(3)) for `fd:` endpoints: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES
  /// are removed from the environment, which must not be read by another thread then; the descriptors become close-on-exec and stay
  /// open. EINVAL, EBADF when the variables cannot be true.
  static Result<Cluster> create(Options options) noexcept;
  Cluster(Cluster&&) noexcept;
  Cluster& operator=(Cluster&&) noexcept;
  /// Kills the workers that are left (SIGKILL) and waits for them. Call `shutdown` and `poll` first for a clean end.
  ~Cluster();

  /// Starts one worker by fork(2) and returns its id; `function` runs in the child, which never returns from here.
  /// Refused (EDEADLK) in a process with more than one thread: a lock that another thread holds would stay held in the child.
  Result<uint32_t> spawn(WorkerFunction function) noexcept;

  /// Waits for events, at most `timeout` (negative: for ever), and acts on them.
  Result<void> poll(std::chrono::milliseconds timeout) noexcept;
  /// Readable when `poll` has something to do; for a primary with an event loop of its own. `poll` costs more once it is asked for.
  int fd() const noexcept;
  /// Calls `on_readable` from `poll` while `fd` is readable: for a primary with a few descriptors of its own. Borrows the fd.
  Result<void> watch(int fd, std::function<void()> on_readable) noexcept;

  /// Drains one worker and does not replace it. ESRCH for an unknown id.
  Result<void> drain(uint32_t worker) noexcept;
  /// Drains all: the workers serve what is queued and in flight, new clients are turned away; then `done()`.
  void shutdown() noexcept;
  /// Shuts down without the drain: SIGKILL.
  void kill() noexcept;
  /// True when no worker is left and none will be started.
  bool done() const noexcept;
  /// The shutdown's result: 0, or 1 when a worker had to be killed or was lost for good.
  int exit_code() const noexcept;

  Status status() const;

 private:
  friend int run(Options options, WorkerFunction worker) noexcept;
  explicit Cluster(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

/// The whole of a server: starts the workers, supervises them and handles signals until all is done.
/// SIGTERM and SIGINT drain (a second one kills); SIGUSR1 prints the status on standard error.
/// Returns the process's exit code: 0 after a drain; 1 when workers crashed for good or had to be killed; 2 when the cluster
/// could not be made, with the reason on standard error. Must be called with one thread in the process.
LB_API int run(Options options, WorkerFunction worker) noexcept;

}  // namespace lb
