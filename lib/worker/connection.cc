// SPDX-License-Identifier: MIT
#include <lb/connection.hh>

#include <cstddef>

#include "sys/doorbell.hh"
#include "sys/error.hh"
#include "wire/scoreboard.hh"

namespace lb {

/// Out of line: seldom. Whoever takes the mark away rings, so that one ring answers one wait.
void LoadToken::ring(std::atomic<uint32_t>& in_flight) noexcept {
  static_assert(kRingWhenLess == LB_RING_WHEN_LESS);
  if ((in_flight.fetch_and(LB_IN_FLIGHT) & kRingWhenLess) == 0) return;
  const auto* word = reinterpret_cast<const char*>(&in_flight);
  Doorbell::ring(reinterpret_cast<const lb_worker_page*>(word - offsetof(lb_worker_page, in_flight))->doorbell);
}

Result<Endpoint> Connection::peer() const noexcept {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getpeername(fd(), reinterpret_cast<sockaddr*>(&storage), &length) != 0) return last_error("getpeername");
  return Endpoint::from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), length);
}

}  // namespace lb
