// SPDX-License-Identifier: MIT
#include "sys/inherited.hh"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <optional>

#include "sys/error.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

constexpr int kFirst = 3;  // SD_LISTEN_FDS_START

std::optional<int> number_in(std::string_view text) noexcept {
  int number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string_view variable(const char* name) noexcept {
  const char* text = std::getenv(name);
  return text != nullptr ? text : std::string_view();
}

/// Of an open socket; 0: it is none.
ino_t socket_inode(int fd) noexcept {
  struct stat about {};
  return ::fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode) ? about.st_ino : 0;
}

int socket_option(int fd, int option) noexcept {
  int value = -1;
  socklen_t length = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

Error unusable(const Endpoint& endpoint, int code, std::string_view why) {
  return error_naming(code, "listen " + endpoint.to_string() + ": " + std::string(why));
}

/// An address that clients can name: what the endpoint's address() will say.
Result<void> check_bound(int fd, const Endpoint& endpoint) {
  const auto address = local_address(fd);
  if (!address) return unusable(endpoint, address.error().code, "its socket is neither IP nor UNIX");
  const bool bound = address->kind() == Endpoint::Kind::unix_socket ? !address->name().empty() : address->port() != 0;
  if (!bound) return unusable(endpoint, EINVAL, "its socket is not bound to an address");
  if (!Endpoint::parse(address->to_string()))
    return unusable(endpoint, EINVAL, "its address, " + address->to_string() + ", is not absolute");
  return {};
}

Result<void> check_socket(int fd, const Endpoint& endpoint) {
  if (socket_option(fd, SO_TYPE) != SOCK_STREAM) return unusable(endpoint, EPROTOTYPE, "not a stream socket (SOCK_STREAM)");
  if (socket_option(fd, SO_ACCEPTCONN) == 1) return check_bound(fd, endpoint);
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0)
    return unusable(endpoint, EISCONN, "its socket is a connection; one that listens or is bound is needed");
  return check_bound(fd, endpoint);
}

}  // namespace

Result<InheritedSockets> InheritedSockets::take() noexcept try {
  InheritedSockets sockets;
  auto read = sockets.read_environment();
  for (const char* name : {"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"})
    ::unsetenv(name);  // not for our children
  if (!read) return read.error();
  sockets.look_around();
  return sockets;
} catch (...) {
  return Error{ENOMEM, "LISTEN_FDS"};
}

Result<void> InheritedSockets::read_environment() {
  const auto pid = variable("LISTEN_PID");
  const auto count = variable("LISTEN_FDS");
  if (pid.empty() || count.empty()) return {};
  const auto owner = number_in(pid);
  if (!owner || *owner <= 0) return error_naming(EINVAL, "LISTEN_PID \"" + std::string(pid) + "\" is not a process id");
  if (*owner != ::getpid()) return {};
  const auto fds = number_in(count);
  if (!fds || *fds <= 0 || *fds > INT16_MAX)
    return error_naming(EINVAL, "LISTEN_FDS \"" + std::string(count) + "\" is not a number of sockets");
  for (int fd = kFirst; fd < kFirst + *fds; ++fd) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
      return error_naming(EBADF, "LISTEN_FDS " + std::string(count) + ": descriptor " + std::to_string(fd) + " is not open");
    passed_.push_back({fd, "unknown"});  // as sd_listen_fds_with_names(3) calls what has no name
  }
  if (std::getenv("LISTEN_FDNAMES") == nullptr) return {};
  auto names = variable("LISTEN_FDNAMES");
  const auto told = static_cast<size_t>(std::count(names.begin(), names.end(), ':')) + 1;
  if (told != passed_.size())
    return error_naming(EINVAL, "LISTEN_FDNAMES \"" + std::string(names.substr(0, 200)) + "\" has " + std::to_string(told) +
                                    " names, and LISTEN_FDS is " + std::string(count));
  for (Passed& passed : passed_) {
    passed.name = names.substr(0, names.find(':'));
    names.remove_prefix(std::min(names.size(), passed.name.size() + 1));
  }
  return {};
}

/// Notes which sockets are open. Without /proc: those that systemd passed, and the standard ones.
void InheritedSockets::look_around() {
  const auto note = [this](int fd) {
    if (const ino_t inode = socket_inode(fd)) sockets_[fd] = inode;
  };
  for (int fd = 0; fd < kFirst; ++fd) note(fd);
  for (const Passed& passed : passed_) note(passed.fd);
  DIR* folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return;
  while (const dirent* entry = ::readdir(folder))
    if (const auto fd = number_in(entry->d_name)) note(*fd);
  ::closedir(folder);
}

Result<int> InheritedSockets::number_of(const Endpoint& endpoint) const {
  const std::string name = endpoint.name();
  if (const auto number = number_in(name)) return *number;
  std::string known;
  std::vector<int> found;
  for (const Passed& passed : passed_) {
    known += (known.empty() ? "" : ", ") + passed.name;
    if (passed.name == name) found.push_back(passed.fd);
  }
  if (found.size() == 1) return found.front();
  if (passed_.empty()) return unusable(endpoint, ENOENT, "no sockets were passed by name (LISTEN_FDS)");
  if (found.empty()) return unusable(endpoint, ENOENT, "no socket has that name (there are: " + known + ")");
  return unusable(
      endpoint, EINVAL,
      std::to_string(found.size()) + " sockets have that name: ask by number, from fd:" + std::to_string(found.front()) + " on");
}

Result<UniqueFd> InheritedSockets::open(const Endpoint& endpoint) const noexcept try {
  const auto fd = number_of(endpoint);
  if (!fd) return fd.error();
  if (::fcntl(*fd, F_GETFD) < 0) return unusable(endpoint, EBADF, "no such descriptor in the primary");
  const ino_t inode = socket_inode(*fd);
  if (inode == 0) return unusable(endpoint, ENOTSOCK, "the descriptor is no socket");
  const auto known = sockets_.find(*fd);
  if (known == sockets_.end() || known->second != inode)
    return unusable(endpoint, EPERM, "the socket was made after the cluster; one that was there before is needed");
  if (auto good = check_socket(*fd, endpoint); !good) return good.error();
  UniqueFd copy(::fcntl(*fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) return unusable(endpoint, errno, "dup");
  const int flags = ::fcntl(copy.get(), F_GETFL);
  if (flags < 0 || ::fcntl(copy.get(), F_SETFL, flags | O_NONBLOCK) != 0) return unusable(endpoint, errno, "O_NONBLOCK");
  return copy;
} catch (...) {
  return Error{ENOMEM, "listen"};
}

void InheritedSockets::close_passed() const noexcept {
  for (const Passed& passed : passed_) ::close(passed.fd);
}

}  // namespace lb
