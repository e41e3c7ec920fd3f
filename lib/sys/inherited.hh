// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include <lb/endpoint.hh>
#include <lb/result.hh>
#include <lb/unique_fd.hh>

namespace lb {

/// The sockets that this process held when its cluster was made: what `fd:N` and `fd:NAME` can mean. Those made later are not among
/// them, so that no worker can ask by number for what belongs to another endpoint.
class InheritedSockets {
 public:
  /// Reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES as sd_listen_fds_with_names(3) does with `unset_environment`: without effect
  /// if LISTEN_PID is not ours; the variables are removed in any case and the descriptors become close-on-exec.
  /// EINVAL, EBADF: what they say cannot be so.
  static Result<InheritedSockets> take() noexcept;

  /// A close-on-exec duplicate of a stream socket that listens or is bound, made non-blocking, which others who hold the socket see.
  /// Errors name the endpoint and what is wrong with the descriptor.
  Result<UniqueFd> open(const Endpoint& endpoint) const noexcept;

  /// In a forked child: closes what systemd passed to its parent.
  void close_passed() const noexcept;

 private:
  struct Passed {
    int fd;
    std::string name;
  };
  Result<void> read_environment();
  void look_around();
  Result<int> number_of(const Endpoint& endpoint) const;

  std::vector<Passed> passed_;
  std::map<int, ino_t> sockets_;  // open as the cluster was made
};

}  // namespace lb
