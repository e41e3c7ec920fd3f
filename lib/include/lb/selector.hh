// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include <lb/endpoint.hh>
#include <lb/export.hh>
#include <lb/result.hh>

namespace lb {

/// A worker that listens on an endpoint and may be picked for a connection, as the primary sees it.
struct Candidate {
  uint32_t worker = 0;     ///< worker id
  uint32_t in_flight = 0;  ///< connections accepted and not yet closed, over all endpoints
  uint32_t handed = 0;     ///< connections of this endpoint handed to it that it has not yet taken
  uint64_t accepted = 0;   ///< connections that it has taken from this endpoint since it started
  bool has_room = false;  ///< may be handed this connection: it is waiting for one, and neither window nor max_in_flight is reached
};

/// The connection that is to be handed to one of them.
class Incoming {
 public:
  Incoming(int fd, const Endpoint& endpoint, uint64_t waited_ns) noexcept : fd_(fd), endpoint_(endpoint), waited_ns_(waited_ns) {}

  /// The client's address: getpeername(2), asked for when called. ENOTCONN when the client has already gone.
  LB_API Result<Endpoint> peer() const noexcept;
  /// The address that it came to.
  const Endpoint& endpoint() const noexcept { return endpoint_; }
  /// How long the primary has held it.
  uint64_t waited_ns() const noexcept { return waited_ns_; }
  /// The socket, to ask it for its options (getsockopt(2)) or to peek at what it has sent (MSG_PEEK). Stays the primary's.
  int fd() const noexcept { return fd_; }

 private:
  int fd_;
  const Endpoint& endpoint_;
  uint64_t waited_ns_;
};

/// The rule of `round-robin:custom`, which the program supplies (Options::selector): the id of one of `candidates` that has room;
/// empty: the connection waits, and the rule is asked again when a worker becomes idle or has news, at the latest after 20 ms.
///
/// Called in the primary, from `run` or `poll`, once for each connection that waits, the oldest first, as long as any worker has
/// room; a connection that is to wait does not hold up those behind it. It must not block, nor call the Cluster. An answer that
/// cannot be followed (an id that is not among the candidates, a worker without room, an exception) is counted
/// (EndpointStatus::bad_picks), and the next worker that has room gets the connection.
using SelectorFunction = std::function<std::optional<uint32_t>(std::span<const Candidate> candidates, const Incoming& connection)>;

}  // namespace lb
