// SPDX-License-Identifier: MIT
#include "sys/half_open.hh"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <lb/unique_fd.hh>

#include "sys/error.hh"

// The netlink macros cast as C does.
#pragma GCC diagnostic ignored "-Wold-style-cast"

namespace lb {
namespace {

struct Request {
  nlmsghdr header{};
  inet_diag_req_v2 body{};
};

}  // namespace

Result<unsigned> count_half_open(sa_family_t family, in_port_t port) noexcept {
  const UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd) return last_error("socket NETLINK_SOCK_DIAG");
  Request request;
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = static_cast<uint8_t>(family);
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = 1U << TCP_SYN_RECV;
  request.body.id.idiag_sport = htons(port);
  if (::send(fd.get(), &request, sizeof request, 0) < 0) return last_error("send NETLINK_SOCK_DIAG");

  unsigned count = 0;
  for (;;) {
    alignas(nlmsghdr) char buffer[16384];
    const ssize_t received = ::recv(fd.get(), buffer, sizeof buffer, 0);
    if (received < 0) return last_error("recv NETLINK_SOCK_DIAG");
    auto length = static_cast<unsigned>(received);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(message, length); message = NLMSG_NEXT(message, length)) {
      if (message->nlmsg_type == NLMSG_DONE) return count;
      if (message->nlmsg_type == NLMSG_ERROR) {
        const auto* failure = static_cast<const nlmsgerr*>(NLMSG_DATA(message));
        return Error{-failure->error, "NETLINK_SOCK_DIAG"};
      }
      const auto* entry = static_cast<const inet_diag_msg*>(NLMSG_DATA(message));
      if (ntohs(entry->id.idiag_sport) == port) ++count;
    }
    if (received == 0) return count;
  }
}

}  // namespace lb
