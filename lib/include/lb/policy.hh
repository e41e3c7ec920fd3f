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

/// The rule by which a backend picks a worker.
enum class Selector {
  standard,      ///< the backend's own: reuseport least-loaded, round-robin cyclic, shared none
  least_loaded,  ///< fewest connections in flight and waiting
  p2c,           ///< the less loaded of two random workers (Mitzenmacher, "The power of two choices", 2001)
  hash,          ///< reuseport: the kernel's own hash, no program
  random,        ///< reuseport: any ready worker
  cyclic,        ///< round-robin: the next worker whose window has room, as Node.js does
  custom,        ///< round-robin: the program's own rule (Options::selector)
};

/// How connections reach workers: `backend[:selector]`, as in LB_SCHED_POLICY.
struct Policy {
  Backend backend = Backend::automatic;
  Selector selector = Selector::standard;

  /// Reads `shared` (= `none`), `reuseport[:least-loaded|p2c|random|hash]`, `round-robin[:cyclic|least-loaded|custom]`
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
