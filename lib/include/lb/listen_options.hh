// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>

namespace lb {

/// Bytes of an endpoint's blob, at most.
inline constexpr size_t kBlobMax = 4096;

/// How a worker asks for an endpoint. All but `backlog` is settled before the socket is bound, so it belongs to the endpoint: a
/// worker that asks for an open endpoint with other values gets EINVAL, which names the difference. The exceptions are `v6only`,
/// which makes it another endpoint, and `exclusive`, which makes it the worker's own.
struct ListenOptions {
  /// listen(2)'s queue length, 0 and up, capped by net.core.somaxconn: how many connections wait in the kernel, plus one, before
  /// further clients must wait (TCP) or get EAGAIN (UNIX). For `shared` it is the queue that all workers pull from; for `reuseport`
  /// that of each worker's socket; for `round-robin` what waits once the primary holds `Options::queue_max`. Workers may ask for
  /// different ones: the latest holds. An inherited socket that listens already keeps its own.
  int backlog = 511;
  /// IPV6_V6ONLY: do not take IPv4 clients on an IPv6 endpoint (ipv6(7)). Without it `tcp://[::]:80` is dual stack, whatever
  /// net.ipv6.bindv6only says: IPv4 clients show up as [::ffff:192.0.2.1]. With and without are two endpoints, that can be open at
  /// once only on different ports (else EADDRINUSE).
  bool v6only = false;
  /// The worker binds by itself and shares with nobody: whoever else asks for that address gets EADDRINUSE. With port 0 each worker
  /// has a port of its own. No policy applies; when the worker drains, newcomers are refused, as nobody else could serve them.
  bool exclusive = false;
  /// Mode of a UNIX socket's path, e.g. 0660 (at most 0777); the path never has a wider one, not even while it is made.
  /// Connecting needs write permission (unix(7)). 0: what umask(2) leaves.
  unsigned permissions = 0;
  /// TCP_DEFER_ACCEPT (tcp(7)): a connection is there only once the client has sent something, or after about so many seconds
  /// (at most 65535). 0: at once.
  unsigned defer_accept_s = 0;
  /// TCP_FASTOPEN (tcp(7)): how many clients may be served from their SYN at a time (at most 65535). 0: none. Has effect where
  /// net.ipv4.tcp_fastopen has bit 2.
  unsigned fast_open = 0;
  /// SO_RCVBUF and SO_SNDBUF (socket(7)) of the connections, in bytes (at most 2^30): capped by net.core.rmem_max and wmem_max, and
  /// doubled by the kernel. 0: its default, which adapts.
  unsigned receive_buffer = 0;
  unsigned send_buffer = 0;
  /// SO_BINDTODEVICE (socket(7)): only clients that come through this interface, e.g. "eth0" (at most 15 bytes). Empty: any.
  std::string device{};
  /// What all workers on this endpoint are to have in common, such as TLS session ticket keys: the first that offers one sets it,
  /// and later ones get that, whatever they offer (Listener::blob). 0 to kBlobMax bytes. It outlives the worker that set it, for
  /// as long as the endpoint lives; the primary may set it beforehand (Cluster::set_blob).
  std::string blob{};

  bool operator==(const ListenOptions&) const = default;
};

}  // namespace lb
