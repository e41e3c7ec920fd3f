// SPDX-License-Identifier: MIT
#include "sys/half_open.hh"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include <lb/unique_fd.hh>

#include "sys/error.hh"
#include "sys/process.hh"

// The netlink macros cast as C does.
#pragma GCC diagnostic ignored "-Wold-style-cast"

namespace lb {
namespace {

constexpr uint64_t kAskAgain_ns = 20'000'000;

struct InetRequest {
  nlmsghdr header{};
  inet_diag_req_v2 body{};
};

/// The timer runs 1 s at first, and twice as long each time; `idiag_expires` is what is left of it.
int64_t age_ms(const inet_diag_msg& entry) noexcept {
  const int64_t first_ms = 1000;
  const unsigned sent_again = entry.idiag_retrans < 8 ? entry.idiag_retrans : 8;
  return first_ms * ((int64_t{2} << sent_again) - 1) - static_cast<int64_t>(entry.idiag_expires);
}

/// Calls `each` with every TCP socket of that family, local port and state in this network namespace.
template <class Each>
Result<void> list_sockets(sa_family_t family, in_port_t port, int state, Each each) noexcept {
  const UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd) return last_error("socket NETLINK_SOCK_DIAG");
  InetRequest request;
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = static_cast<uint8_t>(family);
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = 1U << state;
  request.body.id.idiag_sport = htons(port);
  if (::send(fd.get(), &request, sizeof request, 0) < 0) return last_error("send NETLINK_SOCK_DIAG");

  for (;;) {
    alignas(nlmsghdr) char buffer[16384];
    const ssize_t received = ::recv(fd.get(), buffer, sizeof buffer, 0);
    if (received < 0) return last_error("recv NETLINK_SOCK_DIAG");
    auto length = static_cast<unsigned>(received);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(message, length); message = NLMSG_NEXT(message, length)) {
      if (message->nlmsg_type == NLMSG_DONE) return {};
      if (message->nlmsg_type == NLMSG_ERROR) {
        const auto* failure = static_cast<const nlmsgerr*>(NLMSG_DATA(message));
        return Error{-failure->error, "NETLINK_SOCK_DIAG"};
      }
      const auto* entry = static_cast<const inet_diag_msg*>(NLMSG_DATA(message));
      if (ntohs(entry->id.idiag_sport) == port) each(*entry);
    }
    if (received == 0) return {};
  }
}

/// The bytes of an address as sock_diag gives them.
std::span<const char> address_bytes(const Endpoint& endpoint) noexcept {
  if (endpoint.family() == AF_INET)
    return {reinterpret_cast<const char*>(&reinterpret_cast<const sockaddr_in*>(endpoint.address())->sin_addr), sizeof(in_addr)};
  return {reinterpret_cast<const char*>(&reinterpret_cast<const sockaddr_in6*>(endpoint.address())->sin6_addr), sizeof(in6_addr)};
}

}  // namespace

Result<unsigned> count_half_open(sa_family_t family, in_port_t port, int64_t older_than_ms) noexcept {
  unsigned count = 0;
  auto listed = list_sockets(family, port, TCP_SYN_RECV, [&](const inet_diag_msg& entry) {
    if (older_than_ms == 0 || age_ms(entry) >= older_than_ms) ++count;
  });
  if (!listed) return listed.error();
  return count;
}

bool Handshakes::under_way(sa_family_t family, in_port_t port, int64_t older_than_ms) noexcept {
  if (over_ || now_ns() < ask_again_ns_) return !over_;
  const auto half_open = count_half_open(family, port, older_than_ms);
  over_ = !half_open || *half_open == 0;
  ask_again_ns_ = now_ns() + kAskAgain_ns;
  return !over_;
}

Result<unsigned> count_other_listeners(const Endpoint& address, std::span<const uint32_t> own_inodes) noexcept {
  unsigned count = 0;
  const auto bytes = address_bytes(address);
  auto listed =
      list_sockets(static_cast<sa_family_t>(address.family()), address.port(), TCP_LISTEN, [&](const inet_diag_msg& entry) {
        if (std::memcmp(entry.id.idiag_src, bytes.data(), bytes.size()) != 0) return;
        if (std::find(own_inodes.begin(), own_inodes.end(), entry.idiag_inode) == own_inodes.end()) ++count;
      });
  if (!listed) return listed.error();
  return count;
}

}  // namespace lb
