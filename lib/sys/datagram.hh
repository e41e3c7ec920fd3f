// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <lb/datagram.hh>
#include <lb/endpoint.hh>
#include <lb/result.hh>

namespace lb {

/// True for 0.0.0.0 and [::], whose datagrams may come to any of the host's addresses.
bool is_wildcard(const Endpoint& endpoint) noexcept;

/// Has the kernel say with each datagram which address it came to (IP_PKTINFO, IPV6_RECVPKTINFO).
Result<void> tell_destinations(int fd, int family) noexcept;

/// recvmsg(2) without waiting. `bound` is the socket's address, and a datagram's `to` unless the kernel says more.
Result<std::optional<Datagram>> receive_datagram(int fd, std::span<std::byte> buffer, const Endpoint& bound) noexcept;

/// sendmsg(2) without waiting. `from`: the source address; null or a wildcard: the kernel's choice.
Result<void> send_datagram(int fd, const Endpoint& to, std::span<const std::byte> bytes, const Endpoint* from) noexcept;

Result<void> set_receive_buffer(int fd, int bytes) noexcept;

/// What a socket's receive queue holds, in bytes of memory, and how often it was full (SO_MEMINFO, 4.12). 0 when the kernel won't say.
struct ReceiveQueue {
  uint32_t bytes = 0;
  uint32_t dropped = 0;
};
ReceiveQueue receive_queue(int fd) noexcept;

/// From now on the kernel drops what arrives (SO_ATTACH_FILTER); what is queued stays.
Result<void> drop_new_datagrams(int fd) noexcept;

}  // namespace lb
