// SPDX-License-Identifier: MIT
#include "wire/channel.hh"

#include <sys/socket.h>

#include <cstring>

#include "sys/error.hh"

namespace lb {

Result<std::pair<UniqueFd, UniqueFd>> make_channel() noexcept {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return last_error("socketpair");
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Result<void> send_packet(int channel, const void* bytes, size_t size, std::span<const int> fds,
                         std::span<const std::byte> rest) noexcept {
  alignas(cmsghdr) char control[CMSG_SPACE(kFdsMax * sizeof(int))];
  iovec parts[] = {{const_cast<void*>(bytes), size}, {const_cast<std::byte*>(rest.data()), rest.size()}};
  msghdr header{};
  header.msg_iov = parts;
  header.msg_iovlen = rest.empty() ? 1 : 2;
  if (!fds.empty()) {
    if (fds.size() > kFdsMax) return Error{E2BIG, "sendmsg: descriptors"};
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  for (;;) {
    if (::sendmsg(channel, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return {};
    if (errno != EINTR) return last_error("sendmsg");
  }
}

Result<void> receive_packet(int channel, void* bytes, size_t size, Packet& packet, std::span<std::byte> rest) noexcept {
  alignas(cmsghdr) char control[CMSG_SPACE(kFdsMax * sizeof(int))];
  iovec parts[] = {{bytes, size}, {rest.data(), rest.size()}};
  msghdr header{};
  header.msg_iov = parts;
  header.msg_iovlen = rest.empty() ? 1 : 2;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  packet.state = Packet::State::nothing;
  packet.fd_count = 0;
  ssize_t received = 0;
  do {
    received = ::recvmsg(channel, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (received < 0 && errno == EINTR);
  if (received < 0) {
    if (errno == EAGAIN) return {};
    if (errno != ECONNRESET) return last_error("recvmsg");
    packet.state = Packet::State::closed;
    return {};
  }
  for (cmsghdr* rights = CMSG_FIRSTHDR(&header); rights != nullptr; rights = CMSG_NXTHDR(&header, rights)) {
    if (rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(rights) + i * sizeof fd, sizeof fd);
      UniqueFd owned(fd);
      if (packet.fd_count < kFdsMax) packet.fds[packet.fd_count++] = std::move(owned);
    }
  }
  packet.size = static_cast<size_t>(received);
  packet.truncated = (header.msg_flags & MSG_TRUNC) != 0;
  packet.fds_lost = (header.msg_flags & MSG_CTRUNC) != 0;
  packet.state = received == 0 ? Packet::State::closed : Packet::State::received;
  return {};
}

Result<void> Channel::send(Message& message, std::span<const int> fds, std::string_view payload) noexcept {
  if (payload.size() > Message::kPayloadMax) return Error{EMSGSIZE, "control message"};
  message.version = version_;
  message.sequence = ++sequence_;
  message.payload_length = static_cast<uint16_t>(payload.size());
  return send_packet(fd_.get(), &message, sizeof message, fds, std::as_bytes(std::span(payload)));
}

Result<void> Channel::receive(Message& message, Packet& packet, std::span<char> room) noexcept {
  for (size_t i = 0; i < packet.fd_count; ++i) packet.fds[i].reset();
  if (auto received = receive_packet(fd_.get(), &message, sizeof message, packet, std::as_writable_bytes(room)); !received)
    return received;
  if (packet.state != Packet::State::received) return {};
  if (packet.size >= sizeof message.version && message.version != version_)
    return Error{EPROTONOSUPPORT, "control message of another version"};  // whose size may be another too
  if (packet.size < sizeof message || packet.truncated || !message.valid() ||
      packet.size != sizeof message + message.payload_length)
    return Error{EPROTO, "control message"};
  return {};
}

}  // namespace lb
