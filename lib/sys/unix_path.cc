// SPDX-License-Identifier: MIT
#include "sys/unix_path.hh"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include <utility>

#include "sys/error.hh"
#include "sys/socket_options.hh"

namespace lb {
namespace {

constexpr int kLockTries = 100;
constexpr timespec kLockPause{0, 1'000'000};

/// Held while a path is looked at and changed. Best effort: without the lock we go on.
UniqueFd lock_folder_of(const std::string& path) {
  UniqueFd folder(::open(path.substr(0, path.rfind('/') + 1).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; folder && i < kLockTries && ::flock(folder.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; ++i)
    ::nanosleep(&kLockPause, nullptr);
  return folder;
}

Error naming(const char* op, const Endpoint& endpoint, int code = errno) {
  return error_naming(code, std::string(op) + " " + endpoint.to_string());
}

Result<UniqueFd> make_socket(const Endpoint& endpoint) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return naming("socket for", endpoint);
  return fd;
}

bool same(const struct stat& one, const struct stat& other) noexcept {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/// Removes a socket file behind which nobody listens; under the folder's lock.
Result<void> remove_stale(const Endpoint& endpoint, const std::string& path) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return {};  // it went meanwhile
    return naming("bind", endpoint);
  }
  if (!S_ISSOCK(found.st_mode))
    return naming("bind (what is there is no socket, so it is left alone: remove it or choose another path)", endpoint, ENOTSOCK);
  auto probe = make_socket(endpoint);
  if (!probe) return probe.error();
  if (::connect(probe->get(), endpoint.address(), endpoint.length()) == 0 || errno == EAGAIN)  // EAGAIN: its queue is full
    return naming("bind (a server listens there)", endpoint, EADDRINUSE);
  if (errno == EACCES || errno == EPERM) return naming("bind (may not see whether a server listens there)", endpoint, EADDRINUSE);
  if (errno == EPROTOTYPE) return naming("bind (a socket of another type lives there)", endpoint, EADDRINUSE);
  if (errno != ECONNREFUSED && errno != ENOENT) return naming("bind", endpoint);
  struct stat now {};
  if (::lstat(path.c_str(), &now) != 0 || !same(found, now)) return {};  // somebody else's by now: bind will tell
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return naming("bind (cannot remove the dead server's socket)", endpoint);
  return {};
}

/// bind(2) takes the path's mode from the socket, less the umask: never too much. What the umask took is added before listen(2).
Result<void> widen(const Endpoint& endpoint, const std::string& path, mode_t mode) {
  const UniqueFd there(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat about {};
  if (!there || ::fstat(there.get(), &about) != 0) return naming("permissions of", endpoint);
  if (!S_ISSOCK(about.st_mode)) return naming("permissions of", endpoint, EADDRINUSE);  // somebody replaced it
  if ((about.st_mode & 07777) == mode) return {};
  const auto itself = "/proc/self/fd/" + std::to_string(there.get());  // never what a path may lead to by now
  if (::chmod(itself.c_str(), mode) != 0) return naming("permissions of", endpoint);
  return {};
}

Result<UnixListener> listen_at_path(const Endpoint& endpoint, const ListenOptions& options, const std::string& path, UniqueFd fd) {
  UnixPath owned;  // goes after the lock, which its removal takes
  const UniqueFd lock = lock_folder_of(path);
  if (options.permissions != 0 && ::fchmod(fd.get(), options.permissions) != 0) return naming("permissions of", endpoint);
  if (::bind(fd.get(), endpoint.address(), endpoint.length()) != 0) {
    if (errno != EADDRINUSE) return naming("bind", endpoint);
    if (auto removed = remove_stale(endpoint, path); !removed) return removed.error();
    if (::bind(fd.get(), endpoint.address(), endpoint.length()) != 0) return naming("bind", endpoint);
  }
  auto taken = UnixPath::take(path);
  if (!taken) return naming("bind", endpoint, taken.error().code);
  owned = std::move(*taken);
  if (options.permissions != 0) {
    if (auto widened = widen(endpoint, path, options.permissions); !widened) return widened.error();
  }
  if (::listen(fd.get(), options.backlog) != 0) return naming("listen", endpoint);
  return UnixListener{std::move(fd), std::move(owned)};
}

}  // namespace

UnixPath& UnixPath::operator=(UnixPath&& other) noexcept {
  if (this == &other) return *this;
  remove();
  path_ = std::exchange(other.path_, {});
  device_ = other.device_;
  inode_ = other.inode_;
  owner_ = other.owner_;
  return *this;
}

Result<UnixPath> UnixPath::take(std::string path) noexcept {
  struct stat about {};
  if (::lstat(path.c_str(), &about) != 0) return last_error("lstat");
  UnixPath taken;
  taken.path_ = std::move(path);
  taken.device_ = about.st_dev;
  taken.inode_ = about.st_ino;
  taken.owner_ = ::getpid();
  return taken;
}

UnixPath UnixPath::of_another(std::string path, dev_t device, ino_t inode) noexcept {
  UnixPath known;
  known.path_ = std::move(path);
  known.device_ = device;
  known.inode_ = inode;
  return known;
}

void UnixPath::remove() noexcept try {
  const std::string path = std::exchange(path_, {});
  if (path.empty() || owner_ != ::getpid()) return;
  const UniqueFd lock = lock_folder_of(path);
  struct stat about {};
  if (::lstat(path.c_str(), &about) == 0 && about.st_dev == device_ && about.st_ino == inode_) ::unlink(path.c_str());
} catch (...) {
}

Result<UnixListener> listen_at(const Endpoint& endpoint, const ListenOptions& options) noexcept try {
  auto fd = make_socket(endpoint);
  if (!fd) return fd.error();
  if (auto set = set_before_bind(fd->get(), options, endpoint); !set) return set.error();
  const std::string path = endpoint.name();
  if (path.starts_with('/')) return listen_at_path(endpoint, options, path, std::move(*fd));
  if (::bind(fd->get(), endpoint.address(), endpoint.length()) != 0) return naming("bind", endpoint);
  if (::listen(fd->get(), options.backlog) != 0) return naming("listen", endpoint);
  return UnixListener{std::move(*fd), {}};
} catch (...) {
  return Error{ENOMEM, "listen"};
}

}  // namespace lb
