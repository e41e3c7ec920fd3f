// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <string>

#include <lb/endpoint.hh>
#include <lb/listen_options.hh>
#include <lb/result.hh>
#include <lb/unique_fd.hh>

namespace lb {

/// Owns the path of a bound UNIX socket: removes it when destroyed, but only in the process that bound it, or that it was left to, and
/// only if nobody has replaced it meanwhile.
class UnixPath {
 public:
  UnixPath() noexcept = default;
  UnixPath(UnixPath&& other) noexcept { *this = std::move(other); }
  UnixPath& operator=(UnixPath&& other) noexcept;
  ~UnixPath() { remove(); }

  /// Takes what is at `path` now.
  static Result<UnixPath> take(std::string path) noexcept;
  /// What another process has bound there and still owns.
  static UnixPath of_another(std::string path, dev_t device, ino_t inode) noexcept;
  void remove() noexcept;

  /// From now on, or no longer, it is this process's to remove.
  void own(bool ours) noexcept { owner_ = ours ? ::getpid() : 0; }
  explicit operator bool() const noexcept { return !path_.empty(); }
  dev_t device() const noexcept { return device_; }
  ino_t inode() const noexcept { return inode_; }

 private:
  std::string path_;  // empty: nothing to remove
  dev_t device_ = 0;
  ino_t inode_ = 0;
  pid_t owner_ = 0;
};

struct UnixListener {
  UniqueFd fd;
  UnixPath path;  // empty for an abstract name; removed before the socket closes
};

/// Binds a UNIX endpoint and listens. What a dead server left at the path is replaced; EADDRINUSE if a server lives there; ENOTSOCK
/// if something else does, which is never removed. Errors name the endpoint.
///
/// Servers that bind this way take a lock on the directory (flock(2)) meanwhile, so that two that start at once do not both find the
/// path stale. Not covered: others, which may have bound and not yet listen; directories that we may not read; some network file
/// systems.
Result<UnixListener> listen_at(const Endpoint& endpoint, const ListenOptions& options) noexcept;

}  // namespace lb
