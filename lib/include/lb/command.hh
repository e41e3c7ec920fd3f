// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace lb {

/// A program to run as a worker (execve(2)); it calls Worker::from_environment. All of it may change from one spawn to the next; a
/// replacement for a worker that crashed is started as that one was.
struct Command {
  /// The program. Empty: the one that this process runs, as Node.js's cluster.fork does: what is by now where it was when the
  /// first Cluster was made, else /proc/self/exe. Not searched for in PATH; a relative one counts from `cwd`.
  std::string path{};
  /// Its arguments, without argv[0].
  std::vector<std::string> args{};
  /// Added to the primary's environment, each as "NAME=value"; the last of one name counts. LB_WORKER_ID and LB_CHANNEL_FD are liblb's.
  std::vector<std::string> env{};
  /// Its working directory; empty: the primary's. Entered before `uid` and `gid` take effect.
  std::string cwd{};
  /// Its real, effective and saved user and group. With either given, supplementary groups are dropped too (setgroups(2)).
  std::optional<uid_t> uid{};
  std::optional<gid_t> gid{};
  /// Its standard input, output and error; -1: the primary's own. Borrowed: they must stay open for as long as a spawn or a
  /// replacement may need them. Other descriptors of the primary reach the program unless they are close-on-exec.
  std::array<int, 3> stdio{-1, -1, -1};
};

}  // namespace lb
