// SPDX-License-Identifier: MIT
#include <lb/connection.hh>

#include "sys/error.hh"

namespace lb {

Result<Endpoint> Connection::peer() const noexcept {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getpeername(fd(), reinterpret_cast<sockaddr*>(&storage), &length) != 0) return last_error("getpeername");
  return Endpoint::from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), length);
}

}  // namespace lb
