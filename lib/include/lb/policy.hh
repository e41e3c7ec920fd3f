// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

#include <lb/export.hh>
#include <lb/result.hh>

namespace lb {

/// The mechanism behind an endpoint.
enum class Backend {
  automatic,    ///< reuseport with eBPF where the kernel permits it, else round-robin (`udp://`: else shared)
  shared,       ///< the workers share one bound socket and pull when idle
  reuseport,    ///< one SO_REUSEPORT socket per worker; a program in the kernel picks (socket(7), bpf-helpers(7))
  round_robin,  ///< the primary accepts and hands descriptors to the workers (unix(7), SCM_RIGHTS)
};

/// The rule by which a backend picks a worker. What each trades and when to choose it:
enum class Selector {
  /// The backend's own: reuseport least-loaded, round-robin cyclic, shared none.
  standard,
  /// The fewest connections in flight and waiting. The right one unless something else below is. Looks at every worker for each
  /// connection.
  least_loaded,
  /// Reuseport: the less loaded of two random workers. The pick costs the same for any number of workers; a bad one now and then.
  /// (Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 12(10), 2001.)
  p2c,
  /// Reuseport: the kernel's own hash of both addresses and ports, without a program and without privilege; blind to load (socket(7),
  /// SO_REUSEPORT). Idle workers take nothing from busy ones. To compare with.
  hash,
  /// Reuseport: any ready worker, blind to load. To compare with.
  random,
  /// Reuseport: a client address, without its port, is always served by the same worker, for sessions and caches that live in one. When a
  /// worker goes only its clients move, spread over the others, and they come back to the one that takes its slot, as the replacement
  /// of one that crashed does. Gives up balance: it is blind to load, a client behind whom many hide (NAT) is one client, and idle
  /// workers take nothing from busy ones, but for what nobody has come for in some 200 ms. IPv4 is the same client on a dual-stack
  /// socket. (Rendezvous hashing: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM ToN 6(1), 1998.)
  sticky,
  /// Reuseport: a worker that is pinned (Options::pin_cpus) to the CPU on which the kernel handles the connection's SYN, the less loaded
  /// of two if there are several; if there is none, the least loaded of all. For many short requests where network interrupts are spread over the
  /// CPUs of the workers (RSS or RPS without RFS: scaling.rst of the kernel's documentation), so that a connection stays in one CPU's
  /// caches. As balanced as the network card's spread is: under it idle workers do take from busy ones. (As SO_INCOMING_CPU, socket(7), does
  /// for a group without a program since 6.2.)
  cpu,
  /// Reuseport: by the kernel's hash among the workers that the workers themselves let through, as Alibaba Cloud's load balancers do (Pan et
  /// al., "Hermes", SIGCOMM 2025). Each says when it last came for connections, how many it has and what else is at hand, and drops from
  /// its verdict those that have not come for long and those with 1.5 times the average or more; fewer than two left: the hash alone. The
  /// newest two verdicts count, so that no worker can leave out another alone. Filters are coarse and as old as the last worker's word: one
  /// connection more or less does not matter to them, and nobody takes what waits at a busy one. Knows no weights; to choose where
  /// connections are many and long-lived and a pick should follow the client's hash, and to compare with. Without eBPF it is the hash.
  hermes,
  /// Round-robin: the next worker whose window has room, as Node.js does.
  cyclic,
  /// Round-robin: the program's own rule (Options::selector).
  custom,
};

/// How connections reach workers: `backend[:selector]`, as in LB_SCHED_POLICY.
struct Policy {
  Backend backend = Backend::automatic;
  Selector selector = Selector::standard;

  /// Reads `shared` (= `none`), `reuseport[:least-loaded|p2c|sticky|cpu|hermes|random|hash]`, `round-robin[:cyclic|least-loaded|custom]`
  /// (= `rr`) or `auto`. Anything else is EINVAL, with an `op` that names what was given and lists what is allowed.
  LB_API static Result<Policy> parse(std::string_view text) noexcept;

  /// Reads LB_SCHED_POLICY; `otherwise` (or `auto`) when it is unset or empty. An unknown value is an error, never a default.
  LB_API static Result<Policy> from_environment(Policy otherwise) noexcept;
  LB_API static Result<Policy> from_environment() noexcept;

  /// What `parse` reads back: "reuseport:p2c". The standard selector is spelled out: "reuseport:least-loaded".
  LB_API std::string to_string() const;

  friend bool operator==(const Policy&, const Policy&) = default;
};

/// Every policy that `parse` knows, one spelling each, comma-separated; for help texts.
LB_API std::string policy_names();

/// True when LB_STRICT is set to anything but "" or "0": a fallback is then an error (EPERM or what stood in the way).
LB_API bool strict_from_environment() noexcept;

}  // namespace lb
