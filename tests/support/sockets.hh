// SPDX-License-Identifier: MIT
#pragma once

#include <sys/socket.h>

#include <lb/endpoint.hh>
#include <lb/unique_fd.hh>
#include <string>
#include <vector>

/// Sockets as a test makes them by hand, and what this process holds of them.
namespace lb::test {

/// A folder for sockets that goes at the end of the scope, with what is in it.
class Folder {
 public:
  Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder();
  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

bool is_open(int fd);
/// Whether there is something of that name, which may be a link that leads nowhere.
bool exists(const std::string& path);

/// Bound to `endpoint`, close-on-exec; it listens if `backlog` is not negative. Fails the test if that cannot be.
UniqueFd make_socket(const Endpoint& endpoint, int backlog = 128, int type = SOCK_STREAM);
UniqueFd make_socket(const std::string& endpoint, int backlog = 128, int type = SOCK_STREAM);
Endpoint address_of(int fd);

/// Descriptors of this process.
std::vector<int> open_descriptors();
/// Those among them that are sockets.
std::vector<int> open_sockets();
/// Listening sockets of this process at that address.
std::vector<int> listening_at(const Endpoint& address);
/// A socket option's value, an int; -1 if it has none.
int option_of(int fd, int level, int option) noexcept;
bool is_listening(int fd) noexcept;

/// The name by which no two tests and no two runs of one meet.
std::string unique_name(const std::string& stem);
/// The same as an abstract UNIX socket.
std::string abstract_endpoint();

/// Connections queued and their limit, of a listening TCP socket (sock_diag(7): what `ss -ltn` shows).
struct ListenQueue {
  unsigned queued = 0;
  unsigned backlog = 0;
};
/// One for each listening socket at that TCP port, in this network namespace.
std::vector<ListenQueue> listen_queues(in_port_t port);

}  // namespace lb::test
