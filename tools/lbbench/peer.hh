// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lbbench {

/// A server that is not ours, to be measured beside liblb. To add one, add a row to the table in peer.cc and its configuration to
/// bench/peers, as its own manual recommends for the job.
struct Peer {
  /// Who serves, and who names itself in the answers' X-Worker.
  enum class Workers {
    processes_by_pid,   ///< children of the process that was started; the header has their pids
    processes_in_turn,  ///< children again; the header counts from 1
    threads,            ///< of the process that was started; the header counts from 0
  };

  std::string name;
  std::string sentence;
  std::string program;        ///< looked for in PATH and in the sbin directories
  std::string package;        ///< of Debian, that has it
  std::string configuration;  ///< a file of bench/peers
  std::vector<std::string> arguments;
  std::string listen{};  ///< for the configuration's @LISTEN@
  Workers workers;
  bool announces = false;  ///< prints a line "ready" when all workers listen
  bool sleeps = false;     ///< knows /sleep/US and /spin/US
  std::string version_option;
  /// The program's own versions that cannot do it, as a reason; empty if this one can.
  std::string (*shortcoming)(std::string_view version) = nullptr;
};

std::span<const Peer> peers();
/// Null when there is none of that name.
const Peer* find_peer(std::string_view name);
std::string peer_names();

/// "nginx/1.22.1" and the like, from what the program prints when asked for its version.
std::string version_from(std::string_view output);

/// Why that version of Node.js has no listen({ reusePort }); empty if it has.
std::string no_reuse_port(std::string_view version);

struct Placeholders {
  unsigned workers;
  uint16_t port;
  std::string directory;
  std::string listen;
};
/// The text with its @WORKERS@, @PORT@, @DIRECTORY@ and @LISTEN@ filled in.
std::string fill_in(std::string text, const Placeholders& values);

/// A file that was compiled in.
struct EmbeddedFile {
  const char* name;
  const char* text;
};
extern const EmbeddedFile kPeerFiles[];
extern const size_t kPeerFileCount;
/// The text of a file of bench/peers; empty when there is none.
std::string_view peer_file(std::string_view name);

}  // namespace lbbench
