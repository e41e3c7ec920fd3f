// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <lb/connection.hh>
#include <utility>

#include "sockets.hh"

namespace lb {
namespace {

using test::is_open;

/// A TCP connection within the process.
struct Pair {
  UniqueFd client;
  UniqueFd server;
  Endpoint client_address;
};

Endpoint own_address(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return Endpoint::from_sockaddr(reinterpret_cast<sockaddr*>(&address), length).value();
}

Pair connected(const char* any_port) {
  const auto any = Endpoint::parse(any_port).value();
  const UniqueFd listening(::socket(any.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(listening.get(), any.address(), any.length()), 0);
  EXPECT_EQ(::listen(listening.get(), 1), 0);
  const auto bound = own_address(listening.get());
  Pair pair;
  pair.client.reset(::socket(any.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(pair.client.get(), bound.address(), bound.length()), 0);
  pair.server.reset(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  pair.client_address = own_address(pair.client.get());
  return pair;
}

TEST(LoadToken, gives_the_load_back_when_it_goes) {
  std::atomic<uint32_t> load{5};
  { const LoadToken token(&load); }
  EXPECT_EQ(load, 4u);
}

TEST(LoadToken, gives_the_load_back_once) {
  std::atomic<uint32_t> load{5};
  LoadToken token(&load);
  token.reset();
  token.reset();
  EXPECT_EQ(load, 4u);
}

TEST(LoadToken, empty_one_gives_nothing_back) {
  LoadToken none;
  none.reset();
}

TEST(LoadToken, moves_its_charge) {
  std::atomic<uint32_t> load{5};
  LoadToken from(&load);
  {
    const LoadToken to(std::move(from));
    EXPECT_EQ(load, 5u);
  }
  EXPECT_EQ(load, 4u);
  from.reset();  // NOLINT: that is the test
  EXPECT_EQ(load, 4u);
}

TEST(LoadToken, assignment_gives_back_what_was_held) {
  std::atomic<uint32_t> first{5};
  std::atomic<uint32_t> second{5};
  LoadToken token(&first);
  token = LoadToken(&second);
  EXPECT_EQ(first, 4u);
  EXPECT_EQ(second, 5u);
  auto& same = token;
  token = std::move(same);
  EXPECT_EQ(second, 5u);
}

TEST(Connection, closes_and_gives_the_load_back_when_it_goes) {
  std::atomic<uint32_t> load{1};
  auto pair = connected("tcp://127.0.0.1:0");
  const int fd = pair.server.get();
  {
    const Connection connection(std::move(pair.server), LoadToken(&load));
    EXPECT_EQ(connection.fd(), fd);
    EXPECT_EQ(load, 1u);
  }
  EXPECT_FALSE(is_open(fd));
  EXPECT_EQ(load, 0u);
}

TEST(Connection, close_is_the_same_and_needs_no_second_time) {
  std::atomic<uint32_t> load{1};
  auto pair = connected("tcp://127.0.0.1:0");
  const int fd = pair.server.get();
  Connection connection(std::move(pair.server), LoadToken(&load));
  connection.close();
  EXPECT_FALSE(is_open(fd));
  EXPECT_EQ(load, 0u);
  connection.close();
  EXPECT_EQ(load, 0u);
}

TEST(Connection, release_hands_over_the_socket_and_the_load) {
  std::atomic<uint32_t> load{1};
  auto pair = connected("tcp://127.0.0.1:0");
  const int fd = pair.server.get();
  Released released;
  {
    Connection connection(std::move(pair.server), LoadToken(&load));
    released = connection.release();
  }
  EXPECT_EQ(released.fd.get(), fd);
  EXPECT_TRUE(is_open(fd));
  EXPECT_EQ(load, 1u);
  released.load.reset();
  EXPECT_EQ(load, 0u);
}

TEST(Connection, peer_is_the_clients_address) {
  for (const char* family : {"tcp://127.0.0.1:0", "tcp://[::1]:0"}) {
    auto pair = connected(family);
    const Connection connection(std::move(pair.server), {});
    EXPECT_EQ(connection.peer().value(), pair.client_address) << connection.peer()->to_string();
  }
}

TEST(Connection, peer_of_an_unconnected_socket_is_enotconn) {
  const Connection connection(UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), {});
  EXPECT_EQ(connection.peer().error().code, ENOTCONN);
}

TEST(Connection, peer_of_an_empty_connection_is_an_error) { EXPECT_EQ(Connection().peer().error().code, EBADF); }

}  // namespace
}  // namespace lb
