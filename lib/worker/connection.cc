// SPDX-License-Identifier: MIT
#include <lb/connection.hh>

#include <sys/epoll.h>
#include <sys/socket.h>

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

void Connection::part() noexcept {
  ::shutdown(fd_.get(), SHUT_RDWR);
  if (copies_.epolls == nullptr) return;
  for (size_t i = 0; i < Copies::kEpollsMax; ++i)
    if (const int epoll_fd = copies_.epolls[i].load(std::memory_order_relaxed); epoll_fd > 0)
      ::epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd_.get(), nullptr);
}

Result<Endpoint> Connection::peer() const noexcept {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getpeername(fd(), reinterpret_cast<sockaddr*>(&storage), &length) != 0) return last_error("getpeername");
  return Endpoint::from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), length);
}

}  // namespace lb
