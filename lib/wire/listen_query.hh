// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include <lb/endpoint.hh>
#include <lb/listen_options.hh>
#include <lb/result.hh>

#include "wire/message.hh"

namespace lb {

/// What query_listener asks: a worker wants to listen on an endpoint.
struct ListenQuery {
  Endpoint endpoint;
  uint32_t index = 0;  ///< which of this worker's listeners on that endpoint
  ListenOptions options;
  Endpoint bound;  ///< exclusive: the address that the worker has bound

  /// Into a message's values and text. EMSGSIZE: the texts do not fit.
  Result<void> pack(Message& message) const noexcept;
  /// Peers are not trusted: EINVAL with what is wrong, options out of range included.
  static Result<ListenQuery> unpack(const Message& message) noexcept;
};

}  // namespace lb
