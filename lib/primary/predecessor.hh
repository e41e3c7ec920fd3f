// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <optional>

#include "primary/listeners.hh"
#include "primary/staff.hh"
#include "sys/event_loop.hh"
#include "wire/channel.hh"

namespace lb {

/// The primary that this one is to take over from, as this one sees it. The other end is primary/successor.
class Predecessor {
 public:
  /// hearing: it has not told all yet. waiting: it goes on serving until our workers ask for what it has, and asked: until it hears
  /// of that. taking: all is ours to take. served: we serve, and it lets go.
  enum class Stage { hearing, waiting, asked, taking, served };

  /// Reads LB_UPGRADE_FD, which is removed; empty when nobody started us to take over. EINVAL, EPROTOTYPE: it is no such channel.
  static Result<std::optional<Predecessor>> from_environment() noexcept;

  Channel& channel() noexcept { return channel_; }
  /// One message of its. EPROTO: it makes no sense.
  Result<void> act_on(const Message& message, Packet& packet, std::string_view payload) noexcept;
  /// It is gone: what it has told is ours.
  void gone() noexcept { stage = Stage::taking; }

  bool knows(const std::string& key) const noexcept { return heirlooms_.count(key) != 0; }
  Heirloom* find(const std::string& key) noexcept;
  /// By the cell that the endpoint had there.
  std::map<uint32_t, Heirloom*> heirlooms() noexcept;
  /// As it last told.
  const Staff& staff() const noexcept { return staff_; }

  Stage stage = Stage::hearing;
  bool unfit = false;    ///< it has been told that we will not get there
  bool scaled = false;   ///< we have been asked to have as many workers as it was asked for
  uint64_t news_ns = 0;  ///< when last a worker came further
  EventLoop::Token token = 0;

 private:
  explicit Predecessor(UniqueFd channel) noexcept : channel_(std::move(channel), Message::kHandOverVersion) {}
  Result<void> hear_staff(const Message& message, std::string_view payload);
  Result<void> heirloom(const Message& message, std::string_view payload);
  Result<void> socket(const Message& message, Packet& packet);

  Channel channel_;
  std::map<std::string, Heirloom> heirlooms_;  // by key
  std::map<uint32_t, std::string> keys_;       // by cell
  Staff staff_;
};

}  // namespace lb
