// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <utility>

#include <lb/result.hh>
#include <lb/unique_fd.hh>

#include "wire/message.hh"

namespace lb {

/// Descriptors that one message may carry; the kernel's own limit is 253 (SCM_MAX_FD).
inline constexpr size_t kFdsMax = 128;

/// A pair of connected SOCK_SEQPACKET sockets, non-blocking and close-on-exec.
Result<std::pair<UniqueFd, UniqueFd>> make_channel() noexcept;

/// One packet with descriptors, all of it or nothing; `rest` follows the bytes. EAGAIN: full. EPIPE: nobody reads any more.
Result<void> send_packet(int channel, const void* bytes, size_t size, std::span<const int> fds,
                         std::span<const std::byte> rest = {}) noexcept;

/// What a packet brought: every descriptor is owned from the moment it is there.
struct Packet {
  enum class State { nothing, received, closed };
  State state = State::nothing;
  size_t size = 0;
  size_t fd_count = 0;
  bool truncated = false;  ///< it was longer than we asked for (MSG_TRUNC)
  bool fds_lost = false;   ///< descriptors are missing (MSG_CTRUNC): our table is full
  std::array<UniqueFd, kFdsMax> fds;
};
/// One packet without waiting; what is longer than `size` goes into `rest`. Errors: recvmsg(2)'s, except EAGAIN, and ECONNRESET,
/// which counts as closed.
Result<void> receive_packet(int channel, void* bytes, size_t size, Packet& packet, std::span<std::byte> rest = {}) noexcept;

/// A control channel's end: messages with sequence numbers.
class Channel {
 public:
  Channel() noexcept = default;
  explicit Channel(UniqueFd fd, uint16_t version = Message::kVersion) noexcept : fd_(std::move(fd)), version_(version) {}

  int fd() const noexcept { return fd_.get(); }
  uint16_t version() const noexcept { return version_; }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
  void close() noexcept { fd_.reset(); }

  /// Numbers the message and sends it, with a payload of at most Message::kPayloadMax bytes.
  Result<void> send(Message& message, std::span<const int> fds = {}, std::string_view payload = {}) noexcept;

  /// One message without waiting; `packet.state` says if there was one. Its payload goes into `room`; without room, none may come.
  /// EPROTO: the peer broke the protocol. EPROTONOSUPPORT: it speaks another version of it, which `message.version` tells.
  Result<void> receive(Message& message, Packet& packet, std::span<char> room = {}) noexcept;

 private:
  UniqueFd fd_;
  uint32_t sequence_ = 0;
  uint16_t version_ = Message::kVersion;
};

}  // namespace lb
