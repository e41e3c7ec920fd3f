// SPDX-License-Identifier: MIT
#include "sys/unix_queue.hh"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstring>
#include <optional>

#include <lb/unique_fd.hh>

// The netlink macros cast as C does.
#pragma GCC diagnostic ignored "-Wold-style-cast"

namespace lb {
namespace {

struct UnixRequest {
  nlmsghdr header{};
  unix_diag_req body{};
};

/// The queue's length from the kernel's answer.
std::optional<uint32_t> length_in(const nlmsghdr* message) noexcept {
  const auto* entry = static_cast<const unix_diag_msg*>(NLMSG_DATA(message));
  auto left = static_cast<unsigned>(NLMSG_PAYLOAD(message, sizeof *entry));
  for (const auto* part = reinterpret_cast<const rtattr*>(entry + 1); RTA_OK(part, left); part = RTA_NEXT(part, left)) {
    if (part->rta_type != UNIX_DIAG_RQLEN || RTA_PAYLOAD(part) < sizeof(unix_diag_rqlen)) continue;
    unix_diag_rqlen lengths;
    std::memcpy(&lengths, RTA_DATA(part), sizeof lengths);
    return lengths.udiag_rqueue;
  }
  return std::nullopt;
}

std::optional<uint32_t> ask_diagnostics(int listening_fd) noexcept {
  struct stat about {};
  if (::fstat(listening_fd, &about) != 0) return std::nullopt;
  const UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd) return std::nullopt;
  UnixRequest request;
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.body.sdiag_family = AF_UNIX;
  request.body.udiag_states = 1U << TCP_LISTEN;
  request.body.udiag_ino = static_cast<uint32_t>(about.st_ino);
  request.body.udiag_show = UDIAG_SHOW_RQLEN;
  request.body.udiag_cookie[0] = request.body.udiag_cookie[1] = ~0U;  // whichever has that inode
  if (::send(fd.get(), &request, sizeof request, 0) < 0) return std::nullopt;
  alignas(nlmsghdr) char buffer[4096];
  const ssize_t received = ::recv(fd.get(), buffer, sizeof buffer, MSG_DONTWAIT);  // it answers within send(2)
  const auto* message = reinterpret_cast<const nlmsghdr*>(buffer);
  if (received < 0 || !NLMSG_OK(message, static_cast<unsigned>(received))) return std::nullopt;
  return message->nlmsg_type == SOCK_DIAG_BY_FAMILY ? length_in(message) : std::nullopt;
}

}  // namespace

uint32_t unix_queue_length(int listening_fd) noexcept {
  int domain = 0;
  socklen_t length = sizeof domain;
  if (::getsockopt(listening_fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0 || domain != AF_UNIX) return 0;
  if (const auto answer = ask_diagnostics(listening_fd)) return *answer;
  pollfd waiting{listening_fd, POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0 && (waiting.revents & (POLLIN | POLLHUP)) == POLLIN ? 1 : 0;
}

}  // namespace lb
