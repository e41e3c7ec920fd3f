// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <vector>

#include "backends/backend.hh"

namespace lb {

/// An endpoint on its way from one backend to another: what is left of the old one. primary/policy_change.cc tells the story.
struct PolicyChange {
  std::unique_ptr<EndpointBackend> old;
  ListenRequest request;        ///< the old one's
  std::vector<Seat> seats;      ///< those that still have it
  std::vector<Seat> listening;  ///< of these, those that have said so
  std::vector<Seat> owed;       ///< not yet offered the new one: their channel, or their descriptor table, was full
  std::vector<Seat> told;       ///< to let go of it
  uint64_t since_ns = 0;        ///< of the phase
  uint64_t owed_again_ns = 0;
  bool retired = false;  ///< nobody new gets into it
  bool parting = false;  ///< it is empty
};

/// The cell of a way that a worker did not let go of in time, and may still write to.
struct ForgottenCell {
  uint32_t cell;
  uint32_t heir;  ///< the cell of the way that it has instead
  std::vector<Seat> seats;
  std::vector<Seat> owed{};  ///< of these, those that could not take up what they have instead, for want of descriptors
  uint64_t owed_again_ns = 0;
};

}  // namespace lb
