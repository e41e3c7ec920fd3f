// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include <lb/endpoint.hh>
#include <lb/export.hh>
#include <lb/policy.hh>
#include <lb/roll.hh>

namespace lb {

/// spawned -> online -> listening -> draining -> gone. "listening" is ready: connections are routed to it; without a listener it is online.
enum class WorkerState { spawned, online, listening, draining, gone };
LB_API const char* to_string(WorkerState state) noexcept;

/// What a worker is: a function in a forked process, a program, a thread of the primary's process, or the primary itself.
enum class WorkerKind { forked, command, thread, primary };
LB_API const char* to_string(WorkerKind kind) noexcept;

/// One worker on one endpoint.
struct WorkerLoad {
  uint32_t worker = 0;    ///< worker id
  uint32_t slot = 0;      ///< its slot: the socket's index (reuseport), the page on the scoreboard
  uint64_t accepted = 0;  ///< connections that this worker has taken from this endpoint since it started; datagrams on `udp://`
  uint32_t backlog = 0;   ///< waiting for this worker alone: its socket's accept queue, or handed off and not yet taken;
                          ///< `udp://`: bytes of memory that its socket's receive queue takes
  uint64_t picks = 0;     ///< times that its slot was picked: by the program (reuseport; for a flow on `udp://`), by the primary
                          ///< (round-robin)
  bool hung = false;      ///< it does not come for what waits for it, so nothing new goes to it; under `shared` nobody can tell
};

/// How often the selection program (reuseport with eBPF) left by one of its ways out: "picked", "single", "no_ready", ...
struct PickOutcome {
  std::string name;
  uint64_t count = 0;
};

struct EndpointStatus {
  Endpoint asked;          ///< as the workers asked for it
  Endpoint address;        ///< as bound: port 0 has become a real port
  Policy requested;        ///< what was asked for
  Policy effective;        ///< what is in force
  std::string rung;        ///< how: "eBPF, kernel backlog", "eBPF, in flight", "classic BPF", "kernel hash", "io_uring", "epoll",
                           ///< "exclusive to worker 3" (ListenOptions::exclusive), ...
  std::string reason;      ///< why it is not what was asked for, or not the top rung; empty if it is
  std::string changing{};  ///< a change of policy that is under way: from which one, and how far it has come; else empty
  std::string not_changed{};  ///< why the last change did not take place; empty if it did
  uint32_t queued = 0;        ///< connections in the primary's hands (round-robin) or in the one shared accept queue;
                              ///< `udp://`: bytes of memory that all its receive queues take
  uint32_t queue_age_ms = 0;  ///< how long the oldest in the primary's hands has waited
  uint64_t lost = 0;          ///< connections that the primary had accepted and had to drop (its own descriptor limit, no memory);
      ///< `udp://`: datagrams that the kernel dropped, because a receive queue was full or the cluster shuts down
  uint64_t retried = 0;    ///< times that the primary put off accepting or handing on: no descriptors, memory or room in a channel
  uint64_t bad_picks = 0;  ///< answers of Options::selector that could not be followed
  bool stealing = false;   ///< reuseport: idle workers take what waits at busy ones (Options::stealing); never under `hash`
  unsigned strangers =
      0;  ///< reuseport, TCP: other listening sockets at the address, of processes of the same user, within a second.
          ///< While eBPF selects they get nothing; without it the kernel sends them their share
  uint64_t reattached = 0;  ///< reuseport, TCP: times that somebody had replaced or detached the program, and it was put back
  std::vector<WorkerLoad> workers;
  std::vector<PickOutcome> outcomes{};  ///< each way out of the program (bpf/lb_reuseport.h: lb_exit); empty where there is none
};

struct WorkerStatus {
  uint32_t id = 0;
  pid_t pid = 0;  ///< of a thread: the primary's own
  uint32_t slot = 0;
  WorkerState state = WorkerState::spawned;
  uint32_t in_flight = 0;  ///< connections accepted and not yet closed, over all endpoints
  uint64_t accepted = 0;   ///< connections accepted since it started, over all endpoints
  WorkerKind kind = WorkerKind::forked;
  uint16_t weight = 1;                   ///< Cluster::set_weight
  unsigned weight_percent = 100;         ///< how much of it counts by now (Options::slow_start)
  uint32_t reported = 0;                 ///< Worker::report_load
  int cpu = -1;                          ///< the CPU that it is pinned to (Options::pin_cpus); -1: none
  bool connected = false;                ///< its control channel is open
  bool exited_after_disconnect = false;  ///< it was told to leave, or says that it does: a clean exit is then no crash
  uint32_t generation = 0;               ///< of the rolling restart that started it; 1: none did
};

/// The hand-over to a new primary that is under way, or else the last one.
struct UpgradeStatus {
  enum class State {
    none,
    starting,     ///< the new one starts; this one serves alone
    taking_over,  ///< both serve
    leaving,      ///< the new one serves; this one finishes what it holds
    failed,       ///< it came to nothing, for `reason`
  };
  State state = State::none;
  pid_t pid = 0;  ///< the new primary's
  std::string reason{};
};

/// A snapshot of a cluster; the primary makes it without asking the workers.
struct Status {
  std::vector<EndpointStatus> endpoints;
  std::vector<WorkerStatus> workers;
  uint32_t generation = 0;  ///< of the workers that are started: 1, and one more with each rolling restart
  RollStatus roll{};
  std::string scaling{};  ///< Cluster::scale, not there yet: to how many workers, and what is in the way; else empty
  UpgradeStatus upgrade{};

  /// A few lines for a person, with the effective policy first.
  LB_API std::string to_string() const;
};

}  // namespace lb
