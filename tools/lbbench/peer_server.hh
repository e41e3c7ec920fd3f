// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <variant>

#include "peer.hh"
#include "server.hh"

namespace lbbench {

/// A peer's program as it is on this machine.
struct PeerProgram {
  std::string path;
  std::string version;
};
/// Or why it cannot be run: what is missing, and the Debian package that has it.
std::variant<PeerProgram, std::string> find_program(const Peer& peer);

/// Starts the peer with its configuration in a directory of its own, on a free port of 127.0.0.1, and fills in the report; one byte to
/// `ready_fd` says that all workers listen. Stops it, and all that it started, when `stop_fd` is readable or at its end: so it ends
/// however the main process does. For a process of its own, with one thread; gives its exit code.
int run_peer(const Peer& peer, const PeerProgram& program, unsigned workers, ServerReport& report, int ready_fd, int stop_fd);

}  // namespace lbbench
