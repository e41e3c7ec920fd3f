// SPDX-License-Identifier: MIT
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "primary/launch.hh"
#include "primary/listeners.hh"
#include "primary/staff.hh"
#include "sys/event_loop.hh"
#include "wire/channel.hh"

namespace lb {

/// The new primary that is to take over from this one, as this one sees it. The other end is primary/predecessor.
class Successor {
 public:
  /// starting: it is told what there is, and we go on as ever. taking_over: it has all the sockets and steers them; our workers serve
  /// beside its own. Until it serves, we can take everything back.
  enum class Stage { starting, taking_over };

  Successor(std::unique_ptr<Life> life, Channel channel, uint64_t deadline_ns) noexcept
      : life_(std::move(life)), channel_(std::move(channel)), deadline_ns_(deadline_ns) {}

  Life& life() noexcept { return *life_; }
  std::unique_ptr<Life> take_life() noexcept { return std::move(life_); }
  Channel& channel() noexcept { return channel_; }
  uint64_t deadline_ns() const noexcept { return deadline_ns_; }

  /// Tells all that there is, and then `last`: told or yours.
  Result<void> bequeath(const std::vector<Bequest>& bequests, Act last, const Staff& staff) noexcept;
  /// Sends what did not fit into the channel. EPIPE: it is gone.
  Result<void> flush() noexcept;
  bool owing() const noexcept { return !outbox_.empty(); }

  Stage stage = Stage::starting;
  bool exited = false;
  std::map<uint32_t, bool> taken{};  ///< what it said that it took, by cell; true: with all of a group's sockets
  EventLoop::Token channel_token = 0;
  EventLoop::Token exit_token = 0;

 private:
  struct Parcel {
    Message message;
    UniqueFd fd;  // a duplicate: an endpoint may close while it waits
    std::string payload;
  };
  Result<void> send(Message& message, int fd = -1, std::string_view payload = {});
  Result<void> send(const Bequest& bequest);

  std::unique_ptr<Life> life_;
  Channel channel_;
  uint64_t deadline_ns_;
  std::deque<Parcel> outbox_;
};

}  // namespace lb
