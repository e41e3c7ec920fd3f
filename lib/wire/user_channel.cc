// SPDX-License-Identifier: MIT
#include "wire/user_channel.hh"

#include <sys/socket.h>

#include <cstdint>
#include <new>
#include <string>

#include "sys/error.hh"
#include "wire/channel.hh"

namespace lb {
namespace {

/// Goes before the bytes: an empty packet would look like the end of the channel.
struct Header {
  static constexpr uint32_t kVersion = 1;

  uint32_t version = kVersion;
  uint32_t size = 0;  ///< of what follows
};

}  // namespace

Result<std::pair<UniqueFd, UniqueFd>> make_user_channel() noexcept {
  auto ends = make_channel();
  if (!ends) return ends.error();
  for (const int end : {ends->first.get(), ends->second.get()}) {  // room for a few of the longest, where the default is small
    int size = 0;
    socklen_t length = sizeof size;
    const int wanted = 4 * static_cast<int>(kUserMessageMax);
    if (::getsockopt(end, SOL_SOCKET, SO_SNDBUF, &size, &length) == 0 && size < wanted / 2)
      (void)::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);
  }
  return ends;
}

Result<void> send_user_message(int channel, std::span<const std::byte> bytes, int fd) noexcept {
  if (bytes.size() > kUserMessageMax) {
    try {
      return error_naming(EMSGSIZE, "send: " + std::to_string(bytes.size()) + " bytes (allowed: 0 to 65536)");
    } catch (...) {
      return Error{EMSGSIZE, "send: too many bytes (allowed: 0 to 65536)"};
    }
  }
  const Header header{.size = static_cast<uint32_t>(bytes.size())};
  auto sent = send_packet(channel, &header, sizeof header, {&fd, fd >= 0 ? 1U : 0U}, bytes);
  if (sent) return sent;
  switch (sent.error().code) {
    case EAGAIN:
      return Error{EAGAIN, "send: the channel is full, the other side has not read what it holds"};
    case EPIPE:
    case ECONNRESET:
      return Error{EPIPE, "send: the other side is gone"};
    default:
      return Error{sent.error().code, "send"};
  }
}

Result<UserInbox::State> UserInbox::receive(int channel, const std::function<void(UserMessage&)>& deliver) noexcept {
  if (!memory_) memory_.reset(new (std::nothrow) std::byte[kUserMessageMax]);
  if (!memory_) return Error{ENOMEM, "receive a message"};
  Header header;
  Packet packet;
  if (auto got = receive_packet(channel, &header, sizeof header, packet, {memory_.get(), kUserMessageMax}); !got)
    return got.error();
  if (packet.state == Packet::State::nothing) return State::nothing;
  if (packet.state == Packet::State::closed) return State::closed;
  const bool whole = packet.size >= sizeof header && packet.size - sizeof header == header.size && !packet.truncated;
  if (!whole || header.version != Header::kVersion || packet.fd_count > 1) return Error{EPROTO, "message"};
  UserMessage message(channel, {memory_.get(), header.size}, std::move(packet.fds[0]), packet.fds_lost);
  deliver(message);
  return State::received;
}

Result<void> UserMessage::reply(std::span<const std::byte> bytes, int fd) const noexcept {
  return send_user_message(channel_, bytes, fd);
}

}  // namespace lb
