// SPDX-License-Identifier: MIT
#include "sys/datagram.hh"

#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "sys/error.hh"

namespace lb {
namespace {

/// Room for the one control message that we ask for.
struct Control {
  alignas(cmsghdr) char bytes[CMSG_SPACE(sizeof(in6_pktinfo))];
};

template <class Address>
Endpoint as_endpoint(const Address& address) noexcept {
  auto endpoint = Endpoint::from_sockaddr(reinterpret_cast<const sockaddr*>(&address), sizeof address, SOCK_DGRAM);
  return endpoint ? *endpoint : Endpoint();
}

/// A multicast group or 255.255.255.255, which an answer cannot come from.
bool is_nobodys(const in6_addr& address) noexcept {
  const bool mapped = IN6_IS_ADDR_V4MAPPED(&address);
  return IN6_IS_ADDR_MULTICAST(&address) || (mapped && (address.s6_addr[12] & 0xe0) == 0xe0);
}

Endpoint destination_of(msghdr& header, const Endpoint& bound) noexcept {
  for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
    if (each->cmsg_level == IPPROTO_IP && each->cmsg_type == IP_PKTINFO && bound.family() == AF_INET) {
      in_pktinfo said;
      std::memcpy(&said, CMSG_DATA(each), sizeof said);
      return as_endpoint(sockaddr_in{AF_INET, htons(bound.port()), said.ipi_spec_dst, {}});
    }
    if (each->cmsg_level == IPPROTO_IPV6 && each->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo said;
      std::memcpy(&said, CMSG_DATA(each), sizeof said);
      if (is_nobodys(said.ipi6_addr)) break;
      const uint32_t scope = IN6_IS_ADDR_LINKLOCAL(&said.ipi6_addr) ? said.ipi6_ifindex : 0;
      return as_endpoint(sockaddr_in6{AF_INET6, htons(bound.port()), 0, said.ipi6_addr, scope});
    }
  }
  return bound;
}

void set_source(msghdr& header, Control& control, const Endpoint& from) noexcept {
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof control.bytes;
  cmsghdr* source = CMSG_FIRSTHDR(&header);
  if (from.family() == AF_INET) {
    in_pktinfo wish{};
    wish.ipi_spec_dst = reinterpret_cast<const sockaddr_in*>(from.address())->sin_addr;
    source->cmsg_level = IPPROTO_IP;
    source->cmsg_type = IP_PKTINFO;
    source->cmsg_len = CMSG_LEN(sizeof wish);
    std::memcpy(CMSG_DATA(source), &wish, sizeof wish);
    header.msg_controllen = CMSG_SPACE(sizeof wish);
  } else {
    const auto* address = reinterpret_cast<const sockaddr_in6*>(from.address());
    const in6_pktinfo wish{address->sin6_addr, address->sin6_scope_id};
    source->cmsg_level = IPPROTO_IPV6;
    source->cmsg_type = IPV6_PKTINFO;
    source->cmsg_len = CMSG_LEN(sizeof wish);
    std::memcpy(CMSG_DATA(source), &wish, sizeof wish);
  }
}

/// What an earlier datagram met on its way, which the socket passes on if the user asked it to (IP_RECVERR): not this one's affair.
bool is_about_another(int error) noexcept {
  switch (error) {
    case EINTR:
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENONET:
    case EPROTO:
    case ENOPROTOOPT:
    case EMSGSIZE:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool is_wildcard(const Endpoint& endpoint) noexcept {
  if (endpoint.family() == AF_INET)
    return reinterpret_cast<const sockaddr_in*>(endpoint.address())->sin_addr.s_addr == htonl(INADDR_ANY);
  return endpoint.family() == AF_INET6 &&
         IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(endpoint.address())->sin6_addr);
}

Result<void> tell_destinations(int fd, int family) noexcept {
  const int on = 1;
  const int failed = family == AF_INET ? ::setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on)
                                       : ::setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
  if (failed != 0) return last_error(family == AF_INET ? "IP_PKTINFO" : "IPV6_RECVPKTINFO");
  return {};
}

Result<std::optional<Datagram>> receive_datagram(int fd, std::span<std::byte> buffer, const Endpoint& bound) noexcept {
  sockaddr_storage from;
  Control control;
  iovec part{buffer.data(), buffer.size()};
  for (;;) {
    msghdr header{};
    header.msg_name = &from;
    header.msg_namelen = sizeof from;
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof control.bytes;
    const ssize_t size = ::recvmsg(fd, &header, MSG_DONTWAIT);
    if (size < 0) {
      if (errno == EAGAIN) return std::optional<Datagram>();
      if (!is_about_another(errno)) return last_error("recvmsg");
      continue;
    }
    auto sender = Endpoint::from_sockaddr(reinterpret_cast<const sockaddr*>(&from), header.msg_namelen, SOCK_DGRAM);
    if (!sender) return sender.error();
    return std::optional<Datagram>(
        Datagram{static_cast<size_t>(size), (header.msg_flags & MSG_TRUNC) != 0, *sender, destination_of(header, bound)});
  }
}

Result<void> send_datagram(int fd, const Endpoint& to, std::span<const std::byte> bytes, const Endpoint* from) noexcept {
  Control control{};
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_name = const_cast<sockaddr*>(to.address());
  header.msg_namelen = to.length();
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (from != nullptr && !is_wildcard(*from)) set_source(header, control, *from);
  for (;;) {
    if (::sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return {};
    if (errno != EINTR) return last_error("sendmsg");
  }
}

Result<void> set_receive_buffer(int fd, int bytes) noexcept {
  if (::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) != 0) return last_error("SO_RCVBUF");
  return {};
}

ReceiveQueue receive_queue(int fd) noexcept {
  uint32_t said[SK_MEMINFO_VARS] = {};
  socklen_t length = sizeof said;
  if (::getsockopt(fd, SOL_SOCKET, SO_MEMINFO, said, &length) != 0) return {};
  return {said[SK_MEMINFO_RMEM_ALLOC], said[SK_MEMINFO_DROPS]};
}

Result<void> drop_new_datagrams(int fd) noexcept {
  sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
  const sock_fprog program{1, code};
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) return last_error("SO_ATTACH_FILTER");
  return {};
}

}  // namespace lb
