// SPDX-License-Identifier: MIT
#pragma once

#include <lb/endpoint.hh>
#include <lb/listen_options.hh>
#include <lb/result.hh>

namespace lb {

/// EINVAL, naming the option, its value and what is allowed, when a value is out of range or means nothing for that kind of endpoint.
Result<void> check_options(const ListenOptions& options, const Endpoint& endpoint) noexcept;

/// EINVAL when a worker asks for an endpoint that is open with other options; the backlog may differ.
Result<void> check_alike(const ListenOptions& asked, const ListenOptions& open, const Endpoint& endpoint) noexcept;

/// What is to be set before bind(2). Errors name the option and the endpoint.
Result<void> set_before_bind(int fd, const ListenOptions& options, const Endpoint& endpoint) noexcept;

}  // namespace lb
