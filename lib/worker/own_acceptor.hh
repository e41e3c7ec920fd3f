// SPDX-License-Identifier: MIT
#pragma once

#include <memory>

#include <lb/endpoint.hh>
#include <lb/listen_options.hh>
#include <lb/result.hh>

#include "sys/unix_path.hh"
#include "worker/acceptor.hh"

namespace lb {

/// A socket that a worker has bound for itself alone (ListenOptions::exclusive), on its way to an acceptor.
struct OwnSocket {
  UniqueFd fd;
  UnixPath path;  // removed before the socket closes
  Endpoint address;

  /// Binds; a UNIX socket listens then, a TCP socket does not yet. Errors name the endpoint.
  static Result<OwnSocket> open(const Endpoint& endpoint, const ListenOptions& options) noexcept;
};

/// Listens.
Result<std::unique_ptr<Acceptor>> make_own_acceptor(OwnSocket socket, int backlog) noexcept;

}  // namespace lb
