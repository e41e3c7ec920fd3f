// SPDX-License-Identifier: MIT
#include "sockets.hh"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

// The netlink macros cast as C does.
#pragma GCC diagnostic ignored "-Wold-style-cast"

namespace lb::test {
namespace {

void dump_queues(uint8_t family, in_port_t port, std::vector<ListenQueue>& queues) {
  struct {
    nlmsghdr header{};
    inet_diag_req_v2 body{};
  } request;
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = 1U << TCP_LISTEN;
  const UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  ASSERT_EQ(::send(fd.get(), &request, sizeof request, 0), ssize_t{sizeof request});
  while (true) {
    alignas(nlmsghdr) char buffer[16384];
    const ssize_t received = ::recv(fd.get(), buffer, sizeof buffer, 0);
    ASSERT_GT(received, 0);
    auto length = static_cast<unsigned>(received);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(message, length); message = NLMSG_NEXT(message, length)) {
      if (message->nlmsg_type != SOCK_DIAG_BY_FAMILY) return;
      const auto* entry = static_cast<const inet_diag_msg*>(NLMSG_DATA(message));
      if (ntohs(entry->id.idiag_sport) == port) queues.push_back({entry->idiag_rqueue, entry->idiag_wqueue});
    }
  }
}

}  // namespace

Folder::Folder() {
  std::string name = "/tmp/lb_test_XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "mkdtemp: " << std::strerror(errno);
  path_ = name;
}

Folder::~Folder() {
  std::error_code gone;
  std::filesystem::remove_all(path_, gone);
}

UniqueFd make_socket(const Endpoint& endpoint, int backlog, int type) {
  UniqueFd fd(::socket(endpoint.family(), type | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(fd.get(), endpoint.address(), endpoint.length()), 0) << endpoint.to_string() << std::strerror(errno);
  if (backlog >= 0) {
    EXPECT_EQ(::listen(fd.get(), backlog), 0) << std::strerror(errno);
  }
  return fd;
}

UniqueFd make_socket(const std::string& endpoint, int backlog, int type) {
  return make_socket(Endpoint::parse(endpoint).value(), backlog, type);
}

Endpoint address_of(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0) << std::strerror(errno);
  return Endpoint::from_sockaddr(reinterpret_cast<sockaddr*>(&address), length).value();
}

std::vector<int> open_descriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/fd"), ::closedir);
  std::vector<int> fds;
  while (const dirent* entry = folder ? ::readdir(folder.get()) : nullptr) {
    const int fd = std::atoi(entry->d_name);
    if (entry->d_name[0] != '.' && fd != ::dirfd(folder.get())) fds.push_back(fd);
  }
  return fds;
}

std::vector<int> open_sockets() {
  std::vector<int> sockets;
  for (const int fd : open_descriptors()) {
    struct stat about {};
    if (::fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode)) sockets.push_back(fd);
  }
  return sockets;
}

std::vector<int> listening_at(const Endpoint& address) {
  std::vector<int> found;
  for (const int fd : open_sockets()) {
    if (is_listening(fd) && address_of(fd) == address) found.push_back(fd);
  }
  return found;
}

int option_of(int fd, int level, int option) noexcept {
  int value = -1;
  socklen_t length = sizeof value;
  return ::getsockopt(fd, level, option, &value, &length) == 0 ? value : -1;
}

bool is_listening(int fd) noexcept { return option_of(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1; }

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

bool exists(const std::string& path) {
  struct stat about {};
  return ::lstat(path.c_str(), &about) == 0;
}

std::string unique_name(const std::string& stem) {
  static std::atomic<unsigned> count{0};
  return stem + "." + std::to_string(::getpid()) + "." + std::to_string(++count);
}

std::string abstract_endpoint() { return "unix:@" + unique_name("lb"); }

std::vector<ListenQueue> listen_queues(in_port_t port) {
  std::vector<ListenQueue> queues;
  dump_queues(AF_INET, port, queues);
  dump_queues(AF_INET6, port, queues);
  return queues;
}

}  // namespace lb::test
