// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <utility>

#include <lb/endpoint.hh>
#include <lb/listen_options.hh>
#include <lb/result.hh>
#include <lb/unique_fd.hh>

namespace lb {

/// What to do about an errno of accept(2).
enum class AcceptVerdict {
  none,      ///< nothing is queued
  retry,     ///< that connection failed before it was accepted; try the next, and when one after the other fails, back off
  back_off,  ///< out of descriptors or memory: the connection stays queued
  fatal,     ///< the listening socket is of no use
};
AcceptVerdict accept_verdict(int error) noexcept;

/// So many in a row: then accepting itself is refused, as by a seccomp filter or a security module, which take nothing off the queue.
inline constexpr unsigned kAcceptTries = 16;

/// accept4(2) with SOCK_CLOEXEC. An empty fd: none is queued. Errors: fatal ones, and those after which to back off.
Result<UniqueFd> accept_from(int listening_fd, bool nonblocking) noexcept;

struct BindOptions {
  bool v6only = false;
  bool reuse_port = false;              ///< join the SO_REUSEPORT group that is bound there already
  const ListenOptions* more = nullptr;  ///< what is to be set before (sys/socket_options)
};
/// A non-blocking, close-on-exec socket bound to `endpoint`; errors name the operation and the endpoint.
Result<UniqueFd> bind_to(const Endpoint& endpoint, BindOptions options) noexcept;

/// listen(2); errors name the endpoint. On a socket that listens already it changes the backlog.
Result<void> listen_on(int fd, int backlog, const Endpoint& endpoint) noexcept;
/// Lets others join a bound socket's address with SO_REUSEPORT.
Result<void> allow_reuse_port(int fd) noexcept;

Result<Endpoint> local_address(int fd) noexcept;

/// Connections in a listening socket's accept queue (TCP_INFO, tcp(7); UNIX: sys/unix_queue); 0 when the kernel will not say.
uint32_t accept_queue_length(int listening_fd) noexcept;

/// Turns new clients away without harm to those under way: a classic BPF filter (SO_ATTACH_FILTER, socket(7)) drops every SYN,
/// so that handshakes already begun complete and a new client's SYN is retried until the port is closed, then refused.
Result<void> drop_new_clients(int listening_fd) noexcept;

Result<void> set_blocking(int fd) noexcept;

}  // namespace lb
