// SPDX-License-Identifier: MIT
#pragma once

#include "input.hh"
#include "wire/channel.hh"

namespace lb::fuzz {

/// Descriptors to send along: the kinds that belong and some that do not.
class Descriptors {
 public:
  Descriptors();
  /// Between 0 and 4 of them, as the input says.
  std::span<const int> choose(Input& input) noexcept;

  int listening() const noexcept { return listening_.get(); }
  /// Our end of the channel that hand-offs go through.
  int handoffs() const noexcept { return handoffs_.get(); }
  void renew_handoffs();

 private:
  UniqueFd listening_, null_, memory_, handoffs_, handoffs_far_;
  std::array<int, 4> chosen_{};
};

/// Sends one packet that the input describes: a control message whose fields are mostly possible, or any bytes at all. One message in
/// `fds_one_in` brings descriptors.
void send_any_packet(Input& input, int channel, Descriptors& descriptors, std::span<const Act> likely,
                     unsigned fds_one_in) noexcept;

}  // namespace lb::fuzz
