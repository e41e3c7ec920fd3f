// SPDX-License-Identifier: MIT
#pragma once

#include "backends/backend.hh"

namespace lb {

/// A socket bound to the endpoint as datagrams want it: the receive buffer that was asked for, destinations told where they differ.
Result<UniqueFd> bind_datagram_socket(const Endpoint& endpoint, const ListenRequest& request, bool reuse_port) noexcept;

/// `why`: what stood in the way of the policy that was asked for; empty if it is this one.
Result<std::unique_ptr<EndpointBackend>> make_shared_datagrams(Surroundings& around, const ListenRequest& request,
                                                               std::string why) noexcept;
Result<std::unique_ptr<EndpointBackend>> make_datagram_slots(Surroundings& around, const ListenRequest& request) noexcept;

}  // namespace lb
