// SPDX-License-Identifier: MIT
#include "sys/socket.hh"

#include <linux/filter.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <iterator>

#include "sys/error.hh"
#include "sys/socket_options.hh"
#include "sys/unix_queue.hh"

namespace lb {
namespace {

Error bind_error(const char* what, const Endpoint& endpoint) noexcept {
  const int code = errno;
  try {
    return error_naming(code, std::string(what) + " " + endpoint.to_string());
  } catch (...) {
    return {code, what};
  }
}

Result<void> enable(int fd, int level, int option, const char* op) noexcept {
  const int on = 1;
  if (::setsockopt(fd, level, option, &on, sizeof on) != 0) return last_error(op);
  return {};
}

}  // namespace

AcceptVerdict accept_verdict(int error) noexcept {
  switch (error) {
    case EAGAIN:
      return AcceptVerdict::none;
    case EINTR:
    case ECONNABORTED:  // the client left before we came
    case ENETDOWN:      // from here on: errors of the new connection's network, passed on by accept (accept(2), "Error handling")
    case EPROTO:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case ETIMEDOUT:
    case EPERM:  // a firewall rule
      return AcceptVerdict::retry;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return AcceptVerdict::back_off;
    default:
      return AcceptVerdict::fatal;
  }
}

Result<UniqueFd> accept_from(int listening_fd, bool nonblocking) noexcept {
  const int flags = SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0);
  for (unsigned tries = 1;; ++tries) {
    UniqueFd fd(::accept4(listening_fd, nullptr, nullptr, flags));
    if (fd) return fd;
    switch (accept_verdict(errno)) {
      case AcceptVerdict::none:
        return UniqueFd();
      case AcceptVerdict::retry:
        if (tries < kAcceptTries) break;
        [[fallthrough]];
      case AcceptVerdict::back_off:
      case AcceptVerdict::fatal:
        return last_error("accept");
    }
  }
}

Result<UniqueFd> bind_to(const Endpoint& endpoint, BindOptions options) noexcept {
  if (endpoint.kind() == Endpoint::Kind::inherited || endpoint.kind() == Endpoint::Kind::none) {
    errno = EAFNOSUPPORT;
    return bind_error("bind", endpoint);
  }
  const int type = endpoint.kind() == Endpoint::Kind::udp ? SOCK_DGRAM : SOCK_STREAM;
  const bool ip = endpoint.family() != AF_UNIX;
  UniqueFd fd(::socket(endpoint.family(), type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return bind_error("socket for", endpoint);
  if (ip && type == SOCK_STREAM) {  // for UDP it would let a second server in
    if (auto set = enable(fd.get(), SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR"); !set) return set.error();
  }
  if (options.reuse_port) {
    if (auto set = enable(fd.get(), SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT"); !set) return set.error();
  }
  if (endpoint.family() == AF_INET6) {
    const int only = options.v6only ? 1 : 0;
    if (::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) != 0) return last_error("IPV6_V6ONLY");
  }
  if (options.more != nullptr) {
    if (auto set = set_before_bind(fd.get(), *options.more, endpoint); !set) return set.error();
  }
  if (::bind(fd.get(), endpoint.address(), endpoint.length()) != 0) return bind_error("bind", endpoint);
  return fd;
}

Result<void> listen_on(int fd, int backlog, const Endpoint& endpoint) noexcept {
  if (::listen(fd, backlog) != 0) return bind_error("listen", endpoint);
  return {};
}

Result<void> allow_reuse_port(int fd) noexcept { return enable(fd, SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT"); }

Result<Endpoint> local_address(int fd) noexcept {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return last_error("getsockname");
  int type = SOCK_STREAM;
  socklen_t type_length = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) != 0) return last_error("SO_TYPE");
  return Endpoint::from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), length, type);
}

uint32_t accept_queue_length(int listening_fd) noexcept {
  tcp_info info{};
  socklen_t length = sizeof info;
  if (::getsockopt(listening_fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return unix_queue_length(listening_fd);
  return info.tcpi_state == TCP_LISTEN ? info.tcpi_unacked : 0;  // on a listener: sk_ack_backlog
}

Result<void> drop_new_clients(int listening_fd) noexcept {
  constexpr uint32_t kFlagsOffset = 13;  // the filter sees the segment from its TCP header on
  constexpr uint32_t kSyn = 0x02;
  constexpr uint32_t kAck = 0x10;
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kFlagsOffset),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, kSyn | kAck),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kSyn, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),           // a SYN alone: drop
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),  // anything else: keep whole
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
  if (::setsockopt(listening_fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
    return last_error("SO_ATTACH_FILTER");
  return {};
}

Result<void> set_blocking(int fd) noexcept {
  int nonblocking = 0;
  if (::ioctl(fd, FIONBIO, &nonblocking) != 0) return last_error("FIONBIO");
  return {};
}

}  // namespace lb
