// SPDX-License-Identifier: MIT
#pragma once

#include "wire/channel.hh"
#include "wire/message.hh"

namespace lb {

/// What a worker has open on an endpoint, as the primary's word reaches it.
class Inlet {
 public:
  /// siblings, adopt, disown, nudge, source, part.
  virtual void told(const Message& message, Packet& packet) noexcept = 0;
  /// The worker drains.
  virtual void retire() noexcept = 0;

 protected:
  ~Inlet() = default;
};

}  // namespace lb
