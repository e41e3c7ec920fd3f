// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace lb {

/// What a control message says. The direction is part of the meaning: a message that goes the wrong way breaks the protocol.
enum class Act : uint16_t {
  // primary -> worker
  welcome = 1,  ///< values: slot, slots mapped, 1 = user messages are heard, 1 + the CPU to be pinned to or 0;
                ///< fds: worker pages, primary page, doorbell, the user's messages
  listener,     ///< answers query_listener: error, or endpoint, Accept kind in value 0; text: bound address; payload: the
                ///< endpoint's blob; fds by kind
  siblings,     ///< reuseport: value 0: first slot; fds: the listening sockets of the slots from it on
  adopt,        ///< reuseport: take from slot value 0 too, its worker is gone or does not come; fd: the slot's socket
  disown,       ///< reuseport: slot value 0 has a worker again
  nudge,        ///< reuseport: nothing, shows whether the worker runs; shared: connections wait, look again
  drain,        ///< finish; value 0: Leaving
  source,  ///< a further way for connections to arrive at the listener with cell value 4, since the policy changes; else as the
           ///< listener answer: `endpoint` is the cell that goes with it; value 5: 1 = an older way, to be emptied; answered by
           ///< listening on that cell, or close
  part,    ///< the way with cell `endpoint` is empty: look once more, let go of it and say close
  shed,    ///< it has more connections than others: it may close value 0 idle ones
  // worker -> primary
  online = 64,              ///< the worker runs
  query_listener,           ///< text and values: wire/listen_query; payload: the blob that it offers
  listening,                ///< it listens on `endpoint`
  close,                    ///< it no longer does
  leaving,                  ///< it would like to be drained (it got SIGTERM)
  exited_after_disconnect,  ///< it is about to exit and means to
  // primary -> the new primary that it has started to take over from it
  heirloom =
      128,  ///< there is `endpoint`; text and values: wire/listen_query; payload: its blob. Said again, it replaces what was said
  sockets,  ///< of `endpoint`, one: HeirloomSocket
  told,     ///< that was all; value 0: how many workers listen, 1: the number of Cluster::scale, or 0; payload: their weights, u16
  yours,    ///< the same, and it may be taken: this side steers the sockets no more
  // new primary -> primary
  ready = 192,  ///< its workers have come as far as asking for what was told
  took,         ///< `endpoint`; value 0: 1 = with all its sockets, 0 = with the one alone
  serving,      ///< its workers listen; what it did not take is left to this side
  unfit,        ///< it will not get there; text: why
};

/// How a worker that drains leaves; in drain.
enum class Leaving : uint32_t {
  alone,      ///< others of its cluster go on
  all,        ///< so does the whole cluster: empty the queues
  to_others,  ///< so does the whole cluster, and others have its queues: leave them alone
};

/// sockets, value 0: what its one descriptor is.
enum class HeirloomSocket : uint32_t {
  first,  ///< the one socket; of a reuseport group slot 0's; values 1 to 4: device and inode of its UNIX path, low half and high half
  slot,  ///< another of the group; values 1 and 2: slot and place
  port,  ///< does not listen and keeps the port (Options::without_workers)
};

/// How connections arrive at a worker; in the answer to query_listener. slot_socket: value 1: 1 = a program picks, value 2: 1 = the
/// worker looks at its siblings; fds: the socket, with a program its picks and what was taken of them, to look the worker pages.
enum class Arrival : uint32_t { shared_socket, slot_socket, handoff, own_socket, datagram_socket };

/// shared_socket, value 1 of the answer.
enum SharedSocket : uint32_t {
  kSharedListens = 1,  ///< it listens: the worker need not
  kSharedKept = 2,     ///< others have it too: at the end only what is queued by then is ours
};

/// One control message: a fixed size, so that length is checked once, but for the few that have a payload. SOCK_SEQPACKET keeps its borders.
struct Message {
  /// Between a primary and its workers, which are of one liblb or do not go together. Counts the changes of acts and their values.
  static constexpr uint16_t kVersion = 6;
  /// Between a primary and the one that takes over from it. Their workers never meet, so this one seldom changes, and a new liblb can
  /// take over from an old one.
  static constexpr uint16_t kHandOverVersion = 1;
  static constexpr size_t kTextMax = 207;
  static constexpr size_t kPayloadMax = 4096;

  uint16_t version = kVersion;
  Act act{};
  uint32_t sequence = 0;      ///< the sender's count; an answer's `acknowledged` repeats it
  uint32_t acknowledged = 0;  ///< 0: no answer
  int32_t error = 0;          ///< errno
  uint32_t endpoint = 0;      ///< index of the endpoint's cell on the workers' pages
  uint32_t value[6] = {};
  uint16_t text_length = 0;
  uint16_t payload_length = 0;  ///< bytes that follow the message in its packet
  char text[kTextMax + 1] = {};

  void set_text(std::string_view content) noexcept {
    text_length = static_cast<uint16_t>(content.size() < kTextMax ? content.size() : kTextMax);
    std::memcpy(text, content.data(), text_length);
  }
  std::string_view get_text() const noexcept { return {text, text_length}; }

  /// Peers are not trusted: is this a message of ours? The channel looks at the version.
  bool valid() const noexcept { return text_length <= kTextMax && payload_length <= kPayloadMax; }
};
static_assert(sizeof(Message) == 256);

}  // namespace lb
