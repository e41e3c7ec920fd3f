// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include <lb/export.hh>
#include <lb/result.hh>
#include <lb/unique_fd.hh>

namespace lb {

/// Bytes in one message between a worker and its primary, at most.
inline constexpr size_t kUserMessageMax = 65536;

/// The bytes of a text, as they are sent.
inline std::span<const std::byte> bytes_of(std::string_view text) noexcept { return std::as_bytes(std::span(text)); }

/// A message that a worker's program sent to its primary's, or the other way round: bytes, with or without a descriptor. Messages
/// arrive whole and in the order in which they were sent. They have a channel of their own, so that they cannot hold up what liblb
/// itself has to say; it is a unix(7) socket pair, and holds some 200 KiB in each direction (net.core.wmem_default).
class LB_API UserMessage {
 public:
  UserMessage(int channel, std::span<const std::byte> bytes, UniqueFd fd, bool fd_lost) noexcept
      : channel_(channel), bytes_(bytes), fd_(std::move(fd)), fd_lost_(fd_lost) {}
  UserMessage(const UserMessage&) = delete;
  UserMessage& operator=(const UserMessage&) = delete;

  /// 0 to kUserMessageMax bytes. Valid until the callback returns.
  std::span<const std::byte> bytes() const noexcept { return bytes_; }
  /// The same bytes.
  std::string_view text() const noexcept { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  /// The descriptor that came with it, close-on-exec; -1 if none did. Closed after the callback, unless it was taken.
  int fd() const noexcept { return fd_.get(); }
  UniqueFd take_fd() noexcept { return std::move(fd_); }
  /// A descriptor was sent, but this process had none left for it (RLIMIT_NOFILE).
  bool fd_lost() const noexcept { return fd_lost_; }

  /// Sends an answer to where this came from, as Worker::send and Cluster::send do. Only until the callback returns.
  Result<void> reply(std::span<const std::byte> bytes, int fd = -1) const noexcept;
  Result<void> reply(std::string_view text, int fd = -1) const noexcept { return reply(bytes_of(text), fd); }

 private:
  int channel_;
  std::span<const std::byte> bytes_;
  UniqueFd fd_;
  bool fd_lost_;
};

}  // namespace lb
