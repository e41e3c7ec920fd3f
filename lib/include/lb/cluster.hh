// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <lb/command.hh>
#include <lb/export.hh>
#include <lb/policy.hh>
#include <lb/result.hh>
#include <lb/roll.hh>
#include <lb/selector.hh>
#include <lb/status.hh>
#include <lb/user_message.hh>
#include <lb/worker.hh>

namespace lb {

/// What a worker runs; its return value is the worker's exit code. Return once `Listener::accept` is empty or the worker drains.
using WorkerFunction = std::function<int(Worker&)>;

/// Something that happened to a worker. Order for one worker, whatever its kind: spawned, online, listening (once for each
/// endpoint), draining, disconnected, exit, crash_loop. Every worker has spawned, disconnected and exit, once each; what it did not
/// come to is left out. (Node.js's fork, online, listening, -, disconnect, exit; its setup is Cluster::create.)
struct Event {
  enum class Kind {
    spawned,       ///< it was started; it may not run yet
    online,        ///< the worker runs and has reached the primary
    listening,     ///< it listens on `endpoint`; connections are routed to it from now on
    draining,      ///< it was told to finish
    disconnected,  ///< it can no longer be reached; no connection goes to it
    exit,          ///< it is gone: `exit_code`, or `signal` when one killed it; `expected` tells leaving from crashing
    crash_loop,    ///< it crashed so often that respawning now waits `backoff`
    // An endpoint's; `worker` is 0.
    stranger,          ///< a socket that is not ours has joined `endpoint` (EndpointStatus::strangers)
    program_restored,  ///< the program of `endpoint` had been replaced or detached, and was put back
    // The cluster's; `worker` is 0 but for roll_step. See Cluster::roll.
    roll_begun,          ///< a rolling restart to `generation`
    roll_step,           ///< `worker` listens, and `replaced` is told to drain
    roll_done,           ///< nobody of an older generation is left
    policy_changed,      ///< `endpoint` has the policy that was asked for (Cluster::set_policy), and the old one is at its end
    policy_not_changed,  ///< it could not have it, for `reason`: the old one stays in force
    roll_failed,         ///< it stopped, for `reason`; those not replaced go on
    // The primary's own, with `worker` 0; see Cluster::upgrade. `pid` is the new primary's.
    upgrade_begun,   ///< a new primary was executed
    upgrade_failed,  ///< it came to nothing, for `reason`: this primary goes on
    upgrade_done,    ///< the new one serves: this one lets its workers finish, and is done then
    took_over,       ///< said by the new one: its workers serve what another primary had; `reason`: it has no admin socket
  };
  Kind kind{};
  uint32_t worker = 0;  ///< worker id
  pid_t pid = 0;
  int exit_code = 0;
  int signal = 0;
  /// exit: meant by us (drain, kill, shutdown) or by the worker (it returned 0), and no crash. Node.js: exitedAfterDisconnect.
  bool expected = false;
  std::chrono::milliseconds backoff{0};
  uint32_t generation = 0;  ///< rolls: that of the replacements
  uint32_t replaced = 0;    ///< roll_step: the worker replaced; 0: it had crashed by then
  const char* reason = "";  ///< roll_failed, policy_not_changed, upgrade_failed, took_over
  /// listening, policy_changed, policy_not_changed, stranger, program_restored: address, requested and effective policy, reason.
  const EndpointStatus* endpoint = nullptr;
};

struct Options {
  /// How many workers `run` starts; 0: one for each CPU that this process may use (sched_getaffinity(2)).
  unsigned workers = 0;
  /// How many workers there may be at any time (1 to 256), or `workers` if that is more. Each has two slots, so that all of them can be
  /// replaced while the old ones drain; a spawn without a free slot is ENOSPC. A slot costs a page of shared memory.
  unsigned workers_max = 128;
  /// The policy when LB_SCHED_POLICY is unset.
  Policy policy{};
  /// Replace a worker that crashed, at once at first, then with growing pauses up to 10 s. Not before any worker has come as far
  /// as listening: a server that cannot start says why and ends.
  bool respawn = true;
  /// `run` with a function: the workers are threads of this process, not forked from it. See Cluster::spawn_thread.
  bool threads = false;
  /// What clients meet on a TCP endpoint that no worker serves, be it between a crash and its replacement. `wait`: a queue, until one
  /// does. `refuse`: ECONNREFUSED, and those queued are reset; the port stays ours, and a worker that listens there opens it again.
  enum class WithoutWorkers { wait, refuse };
  WithoutWorkers without_workers = WithoutWorkers::wait;
  /// Pins each worker to one of these CPUs as it starts (sched_setaffinity(2)): the one that has the fewest of the workers, in this order, so a
  /// replacement gets the CPU of the one that crashed. Empty: workers run anywhere. Not the primary itself (Cluster::join). EINVAL for a
  /// CPU that this process may not use. A worker may also be pinned by whoever starts it (taskset(1), cpuset); `reuseport:cpu` sees that as
  /// it listens.
  std::vector<unsigned> pin_cpus{};
  /// Reap every child that ended and is not a worker. For a primary that is PID 1 of a container and becomes the parent of all orphans
  /// there, within a second; not for a program that waits for children of its own, whose exit status this would take.
  bool reap_orphans = false;
  /// How long a draining worker may take before SIGKILL ends it.
  std::chrono::milliseconds drain_deadline{30'000};
  /// When a worker begins to listen while others hold connections: for so long those with well more than the mean are asked, now and
  /// then and for a few at a time, to close idle ones (Worker::on_shed). 0: never.
  std::chrono::milliseconds shed_over{10'000};
  /// A worker that was started while others served (a replacement, one more) gets a small weight as it begins to listen, which grows to
  /// its own in this time: its caches are cold, and it has the fewest connections of all, so that where the load counts all new ones
  /// would go to it. As HAProxy's "slowstart" and nginx's "slow_start" have it; likewise not while nobody warm is beside it. For the
  /// policies that know weights (Cluster::set_weight). 0: at once.
  std::chrono::milliseconds slow_start{0};
  /// What SIGHUP asks for under `run`, and Cluster::roll without an argument.
  RollOptions roll{};
  /// How long a new primary may take until its workers serve (Cluster::upgrade). 1 ms to 24 h.
  std::chrono::milliseconds upgrade_deadline{30'000};
  /// Round-robin: how many handed-off connections a worker may hold that it has not yet taken (1..32). With 2 and more a busy worker is
  /// handed its next one ahead of time: more connections a second, served in order but for those. With 1 the order is strict.
  unsigned window = 8;
  /// Round-robin: how many connections the primary holds before it leaves the rest in the kernel's queue. One turn's burst,
  /// which io_uring accepts at once, may exceed it.
  unsigned queue_max = 1024;
  /// Round-robin: how many connections a worker may have in flight, over all endpoints; 0: any number. The primary hands nothing to
  /// a worker that has so many, and keeps the connections in its queue (`queue_max`) until one closes. Connections that a
  /// framework brought (`Listener::adopt`) count, but are not refused. Under the other policies, where workers take connections by
  /// themselves, it does not hold: the status says so, and LB_STRICT makes it an error. (0..2^31-1)
  uint32_t max_in_flight = 0;
  /// Who gives up all capabilities (capabilities(7)), for good, and with no_new_privs the right to get any by execve(2). No worker needs
  /// one for what liblb does. `workers_drop`: each before it runs anything of the program's, a thread for itself alone. `all_drop`: the
  /// primary too, in the thread that polls, once `workers` of them (one at least) listen; it binds the sockets of all workers that
  /// may come on the endpoints there are by then, and loads what it needs. Workers can still be replaced and added; an endpoint
  /// that is asked for later is opened with no privilege: ports below 1024 are refused, and eBPF becomes a lower rung. Under
  /// reuseport `udp://` ports below 1024 get no further sockets. A Command with `uid` or `gid` is then refused (EINVAL).
  enum class Privileges { keep, workers_drop, all_drop };
  Privileges privileges = Privileges::keep;
  /// Reuseport: an idle worker takes connections that wait at a busy one, so that none waits while somebody is idle. Without it each
  /// worker serves what its own socket was given, and what waits there goes to another only when its worker is gone, hangs, or has not
  /// come for it in about a second.
  bool stealing = true;
  /// The rule of the policy `round-robin:custom`, which is an error (EINVAL) without it. Unused under all others.
  SelectorFunction selector{};
  /// Where lbctl asks: the path of a UNIX socket, absolute, or "@name" for an abstract one; empty: none. LB_ADMIN_SOCKET overrides it.
  /// The path has mode 0600, and only this user and root are answered (SO_PEERCRED, unix(7)). What a dead primary left there is
  /// replaced; it goes with the cluster. Errors of Cluster::create: EADDRINUSE if a server lives there, and bind(2)'s.
  std::string admin_socket{};
  /// Called in the primary, from `run` or `poll`. It must not call back into the Cluster.
  std::function<void(const Event&)> on_event{};
  /// Takes the messages that workers send (Worker::send), from `run` or `poll`, in the order in which each worker sent them and
  /// before its exit event; a worker that sends without end is heard a few messages a turn. It may call Cluster::send, or
  /// `reply`, and nothing else of the Cluster; it must not throw. Without it, Worker::send is an error (EOPNOTSUPP).
  std::function<void(uint32_t worker, UserMessage& message)> on_message{};
};

struct RunLoop;

/// The primary: owns the listening sockets and supervises the workers. Single-threaded; used by the process that made it, so a daemon
/// forks first. In a child that the program forks by itself `poll`, `spawn` and `join` are refused (EPERM), and to destroy it does
/// nothing to the workers.
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
  /// Kills the workers that are left (SIGKILL) and waits for them; a thread, which nothing can kill, is cut off, which drains it, and
  /// waited for. Call `shutdown` and `poll` first for a clean end.
  ~Cluster();

  /// Starts one worker by fork(2) and returns its id; `function` runs in the child, which never returns from here. `env` is added
  /// to the child's environment, as "NAME=value".
  /// Refused (EDEADLK) in a process with more than one thread: a lock that another thread holds would stay held in the child.
  Result<uint32_t> spawn(WorkerFunction function, std::vector<std::string> env = {}) noexcept;

  /// Starts a program as a worker, from a process with threads too; the program calls Worker::from_environment. Returns once it runs.
  /// A program that cannot be started is this call's error, with the errno of what failed, and the path: "spawn: exec /bin/no:
  /// No such file or directory" (execve(2)), or chdir, setgroups, setgid, setuid.
  Result<uint32_t> spawn(Command command) noexcept;

  /// Starts a worker that is a thread of this process; the primary polls in its own thread. It has its channel, its scoreboard page
  /// and its descriptors as any worker, but the process's descriptor table: EMFILE hits all. It ends by returning; a crash ends the
  /// whole process. Asynchronous signals are blocked in it: SIGTERM is the primary's. Nothing can kill it alone: one that outstays its
  /// drain, or breaks the protocol, counts as lost (exit with code 1, which the exit code of the cluster shows); it runs on until it
  /// returns, its slot stays taken, and nobody waits for it. What `function` refers to must live that long. Once there is a thread,
  /// no worker can be forked; a Command can be spawned.
  Result<uint32_t> spawn_thread(WorkerFunction function) noexcept;

  /// The primary serves too (Node.js, when primary and worker both accept): a Worker of this process and thread, with the policy's
  /// share. Use it as an event loop does, with `try_accept`, beside `poll`; `accept` would stop the primary and is refused (EDEADLK).
  /// It leaves when it is destroyed, before the Cluster. A worker forked meanwhile has copies of its connections, which close
  /// properly all the same; a Command has not.
  Result<Worker> join() noexcept;

  /// Waits for events, at most `timeout` (negative: for ever), and acts on them.
  Result<void> poll(std::chrono::milliseconds timeout) noexcept;
  /// Readable when `poll` has something to do; for a primary with an event loop of its own. `poll` costs more once it is asked for.
  int fd() const noexcept;
  /// Calls `on_readable` from `poll` while `fd` is readable: for a primary with a few descriptors of its own. Borrows the fd.
  Result<void> watch(int fd, std::function<void()> on_readable) noexcept;

  /// Sends a message to the program in one worker, which takes it by Worker::on_message; `fd`, if not -1, is duplicated into the
  /// worker and stays the caller's. Never waits. EMSGSIZE: longer than kUserMessageMax. EAGAIN: the worker has not read what was
  /// sent before; nothing was sent. ESRCH: no such worker. EPIPE: it is gone. Else sendmsg(2)'s (EBADF, ETOOMANYREFS, ENOMEM).
  Result<void> send(uint32_t worker, std::span<const std::byte> bytes, int fd = -1) noexcept;
  Result<void> send(uint32_t worker, std::string_view text, int fd = -1) noexcept { return send(worker, bytes_of(text), fd); }

  /// Sets the blob of an endpoint (ListenOptions::blob), spelled as the workers ask for it: those that listen from now on get it,
  /// whatever they offer; those that listen already keep theirs, and may be told (`send`). EMSGSIZE: longer than kBlobMax bytes.
  /// EINVAL: no endpoint.
  Result<void> set_blob(std::string_view endpoint, std::string_view blob) noexcept;

  /// Drains one worker and does not replace it. ESRCH for an unknown id.
  Result<void> drain(uint32_t worker) noexcept;
  /// The same with a deadline of its own, after which it is killed. Of several drains the earliest deadline counts.
  Result<void> drain(uint32_t worker, std::chrono::milliseconds deadline) noexcept;
  /// Sends a signal to one worker (kill(2); 0 sends none). SIGTERM drains it; after SIGTERM and SIGKILL its end is expected, and it
  /// is not replaced. ESRCH for an unknown id, EOPNOTSUPP for a thread, which takes SIGTERM alone.
  Result<void> kill(uint32_t worker, int signal) noexcept;
  /// Changes the number of workers, those of `join` not counted. More: each is started as the last one that `spawn` (or `run`) started,
  /// with the environment of rolling restarts since. Fewer: drained are those that serve nobody yet, then those with the fewest
  /// connections in flight, which leave soonest; of two alike the younger. Returns at once; `poll` does it, after the replacements of a
  /// rolling restart, and tries again each second if it can't (Status::scaling).
  /// EINVAL: 0. ENOSPC: more than half of the slots (Options::workers_max). ENOENT: nobody was spawned yet. ESHUTDOWN.
  Result<void> scale(unsigned workers) noexcept;
  /// Rolling restart: every worker, but for those of `join`, is replaced by one that is started as it was, in a slot of its own; a
  /// Command's path is executed anew, so a file that was replaced takes effect. Only when the replacement listens does the old one
  /// drain, so nothing is refused, reset or left hanging; connections that live on past the drain's deadline are cut then. A worker
  /// that listens exclusively on a fixed port cannot be rolled: the port is taken until it leaves.
  ///
  /// A replacement that ends before it listens, or takes too long, stops the roll: it is ended, who is not replaced goes on serving,
  /// event and status say why. So does one that crashes twice in a row later on, while the roll runs. A roll that is asked for while
  /// one, or an upgrade, runs begins when that has ended, however it ended; several count as one, with the last one's options. Returns at once; the
  /// rest is done in `poll`. EINVAL: an option out of range. ESHUTDOWN: the cluster shuts down.
  Result<void> roll() noexcept;
  Result<void> roll(RollOptions options) noexcept;
  /// Changes the policy while the cluster runs: of every endpoint, and of those to come. The workers live on, and so do the connections
  /// in their hands; those that wait are served; nothing is refused, reset or left hanging. A change of selector alone takes effect with
  /// the next connection; one of backend is made in `poll`, within milliseconds once the workers come for their events, and
  /// is told by the event policy_changed. Meanwhile both backends serve (EndpointStatus::changing). A change that is asked for while
  /// one is made waits for it. Datagrams and exclusive endpoints stay as they are.
  /// What cannot be had is an error, and changes nothing: with LB_STRICT a fallback is one, as under Worker::listen.
  /// EINVAL: round-robin:custom without Options::selector. ENOSPC: 64 endpoints; one that changes counts twice. EBUSY: an upgrade is
  /// under way. ESHUTDOWN.
  Result<void> set_policy(Policy policy) noexcept;
  /// The same for one endpoint, as asked for or as bound. ENOENT: there is none. EOPNOTSUPP: its policy does not change.
  Result<void> set_policy(std::string_view endpoint, Policy policy) noexcept;
  /// What a worker can take, in relation to the others (1 to 65535; 1 at first): where connections go by load, its load counts divided
  /// by its weight, so that of equal workers one of weight 2 holds twice as many. For reuseport:least-loaded and :p2c on the eBPF
  /// rungs, and for round-robin:least-loaded; the other policies know no load. A replacement, after a crash or in a rolling restart, has
  /// its predecessor's. Takes effect with the next connection. ESRCH for an unknown id, EINVAL for 0.
  Result<void> set_weight(uint32_t worker, uint16_t weight) noexcept;
  /// Hands over to a new primary: executes `command` (empty: this program, as for `spawn`; without arguments: with this process's), and
  /// goes on as ever until as many workers as listen here have come so far there as to ask for their endpoints. Then the new one's
  /// backends go on with this one's listening sockets, under the policy that is asked for there; no queue is closed. Once its workers
  /// serve, this one's finish what they hold, until Options::drain_deadline; then `done()`, with exit code 0. Connections in hand are
  /// not handed over: those that outlive the deadline are cut. An endpoint that no worker asks for there is closed here, once all who
  /// got in are served.
  ///
  /// A new one that exits, crashes, says nonsense or is not there by Options::upgrade_deadline is killed, and this one goes on with all
  /// it had; event and status say why. Returns once the program runs; execve(2)'s error if it does not. EALREADY: an upgrade is under
  /// way. EBUSY: a rolling restart or a change of policy is. ESHUTDOWN: the cluster shuts down. ENOTSUP: this is PID 1, whose exit ends its container.
  ///
  /// Exclusive endpoints belong to the old workers: on a fixed port, the new ones get EADDRINUSE, and the upgrade fails.
  /// With NOTIFY_SOCKET set, systemd is told the new main process (sd_notify(3): MAINPID).
  Result<void> upgrade(Command command = {}) noexcept;
  /// Drains all: the workers serve what is queued and in flight, new clients are turned away; then `done()`.
  void shutdown() noexcept;
  /// Shuts down without the drain: SIGKILL.
  void kill() noexcept;
  /// True when no worker is left and none will be started.
  bool done() const noexcept;
  /// The shutdown's result: 0, or 1 when a worker had to be killed or was lost for good.
  int exit_code() const noexcept;

  /// The worker's control channel is open: false before it was spawned, and from `disconnected` on.
  bool is_connected(uint32_t worker) const noexcept;
  /// The worker was there once and is gone: true from its `exit` on.
  bool is_dead(uint32_t worker) const noexcept;
  /// Those that are not dead, by id.
  std::vector<WorkerStatus> workers() const;
  Status status() const;

 private:
  friend struct RunLoop;
  explicit Cluster(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

/// The whole of a server: starts the workers, supervises them and handles signals until all is done.
/// SIGTERM and SIGINT drain (a second one kills); SIGHUP asks for a rolling restart; SIGUSR1 prints the status on standard error;
/// SIGUSR2 hands over to a new primary (Cluster::upgrade), and what comes of it is on standard error.
/// Returns the process's exit code: 0 after a drain; 1 when workers crashed for good or had to be killed; 2 when the cluster
/// could not be made, with the reason on standard error. Must be called with one thread in the process.
LB_API int run(Options options, WorkerFunction worker) noexcept;
/// The same with workers that are programs. As in Node.js's first example, one program may be both:
/// `return lb::is_worker() ? serve(lb::Worker::from_environment().value()) : lb::run({}, lb::Command{});`
LB_API int run(Options options, Command worker) noexcept;

}  // namespace lb
