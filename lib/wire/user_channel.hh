// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include <lb/user_message.hh>

namespace lb {

/// A worker's channel for the messages of the user's two programs: primary's end, worker's end.
Result<std::pair<UniqueFd, UniqueFd>> make_user_channel() noexcept;

/// EMSGSIZE: longer than kUserMessageMax. EAGAIN: the other side has not read what it has. EPIPE: nobody reads any more.
Result<void> send_user_message(int channel, std::span<const std::byte> bytes, int fd) noexcept;

/// Where messages are received; the memory is there from the first one on.
class UserInbox {
 public:
  enum class State { nothing, received, closed };

  /// One message without waiting, given to `deliver`. EPROTO: the peer broke the protocol.
  Result<State> receive(int channel, const std::function<void(UserMessage&)>& deliver) noexcept;

 private:
  std::unique_ptr<std::byte[]> memory_;
};

}  // namespace lb
