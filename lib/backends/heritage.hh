// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "backends/bound_socket.hh"

namespace lb {

/// The listening sockets of an endpoint, apart from the backend that serves it: what another backend, or the primary's successor, is
/// opened with. All are duplicates, so that giving them away takes nothing from anybody.
struct Heritage {
  struct Slot {
    uint32_t index = 0;
    uint32_t place = 0;  ///< in the group's order of listening
    UniqueFd socket;
  };
  BoundSocket socket;          ///< the one socket; of a reuseport group: slot 0's, place 0
  std::vector<Slot> others{};  ///< a reuseport group's others
  bool lent = false;           ///< whoever has it may want it back, until EndpointBackend::own
};

}  // namespace lb
