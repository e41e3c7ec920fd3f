// SPDX-License-Identifier: MIT
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <span>

#include <lb/endpoint.hh>
#include <lb/result.hh>

namespace lb {

/// How many handshakes are under way (TCP_SYN_RECV) at a local port, from the kernel's socket diagnostics (sock_diag(7)).
/// Needs no privilege. Handshakes under SYN cookies leave no trace and are not counted.
/// `older_than_ms`: only those that began so long ago or longer, as far as their retransmissions tell (RFC 6298: after 1, 3, 7 s...).
Result<unsigned> count_half_open(sa_family_t family, in_port_t port, int64_t older_than_ms = 0) noexcept;

/// Sockets that listen at that TCP address, in this network namespace, and whose inode is not among these: with SO_REUSEPORT any
/// process of the same user may have some. Needs no privilege.
Result<unsigned> count_other_listeners(const Endpoint& address, std::span<const uint32_t> own_inodes) noexcept;

/// Whether handshakes that began before nobody new gets in are over. The kernel goes through all its connections to tell, so it is asked
/// every 20 ms at most; and once they are over, they are.
class Handshakes {
 public:
  /// What the kernel does not tell is taken to be over.
  bool under_way(sa_family_t family, in_port_t port, int64_t older_than_ms = 0) noexcept;

 private:
  uint64_t ask_again_ns_ = 0;
  bool over_ = false;
};

}  // namespace lb
