// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace lb {

/// What a control message says. The direction is part of the meaning: a message that goes the wrong way breaks the protocol.
enum class Act : uint16_t {
  // primary -> worker
  welcome = 1,     ///< values: slot, slots mapped; fds: worker pages, primary page, doorbell
  listener,        ///< answers query_listener: error, or endpoint, Accept kind in value 0; text: bound address; fds by kind
  siblings,        ///< reuseport: value 0: first slot; fds: the listening sockets of the slots from it on
  adopt,           ///< reuseport: take from slot value 0 too, its worker is gone or does not come; fd: the slot's socket
  disown,          ///< reuseport: slot value 0 has a worker again
  nudge,           ///< nothing: shows whether the worker runs
  drain,           ///< finish; value 0: 1 = the whole cluster does, so empty the queues
  // worker -> primary
  online = 64,     ///< the worker runs
  query_listener,  ///< text: endpoint; values: index, backlog, v6only
  listening,       ///< it listens on `endpoint`
  close,           ///< it no longer does
  leaving,         ///< it would like to be drained (it got SIGTERM)
  exited_after_disconnect,  ///< it is about to exit and means to
};

/// How connections arrive at a worker; in the answer to query_listener.
enum class Arrival : uint32_t { shared_socket, slot_socket, handoff, datagram_socket };

/// One control message: a fixed size, so that length is checked once. SOCK_SEQPACKET keeps its borders.
struct Message {
  static constexpr uint16_t kVersion = 1;
  static constexpr size_t kTextMax = 207;

  uint16_t version = kVersion;
  Act act{};
  uint32_t sequence = 0;      ///< the sender's count; an answer's `acknowledged` repeats it
  uint32_t acknowledged = 0;  ///< 0: no answer
  int32_t error = 0;          ///< errno
  uint32_t endpoint = 0;      ///< index of the endpoint's cell on the workers' pages
  uint32_t value[6] = {};
  uint32_t text_length = 0;
  char text[kTextMax + 1] = {};

  void set_text(std::string_view content) noexcept {
    text_length = static_cast<uint32_t>(content.size() < kTextMax ? content.size() : kTextMax);
    std::memcpy(text, content.data(), text_length);
  }
  std::string_view get_text() const noexcept { return {text, text_length}; }

  /// Peers are not trusted: is this a message of ours?
  bool valid() const noexcept { return version == kVersion && text_length <= kTextMax; }
};
static_assert(sizeof(Message) == 256);

}  // namespace lb
