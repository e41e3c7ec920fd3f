// SPDX-License-Identifier: MIT
#include "datagram_clients.hh"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace lb::test {
namespace {

constexpr int kMoment_ms = 1;

/// As users write it: try_receive() until it is empty when the socket or the worker says so.
int reply_watching(Worker& worker, DatagramSocket& socket, Board& board) {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event told{.events = EPOLLIN, .data = {.u64 = 1}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, worker.fd(), &told) != 0) return board.fail("epoll_ctl");
  if (const auto watched = socket.watch(epoll.get(), 0); !watched) return board.fail("watch: " + watched.error().message());
  std::array<std::byte, 64> buffer{};
  while (!(worker.draining() && socket.drained())) {
    epoll_event event{};
    const int n = ::epoll_wait(epoll.get(), &event, 1, -1);
    if (n < 0 && errno != EINTR) return board.fail(std::string("epoll_wait: ") + std::strerror(errno));
    if (n == 1 && event.data.u64 == 1 && !worker.dispatch()) return board.fail("dispatch");
    while (true) {
      auto received = socket.try_receive(buffer);
      if (!received) return board.fail("try_receive: " + received.error().message());
      if (!*received) break;
      reply_one(worker, socket, **received, std::span(buffer).first((*received)->size), board);
    }
  }
  return 0;
}

}  // namespace

void DatagramClients::add(const Endpoint& to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    Client client{.fd = UniqueFd(::socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0))};
    EXPECT_EQ(::connect(client.fd.get(), to.address(), to.length()), 0) << to.to_string() << ": " << std::strerror(errno);
    clients_.push_back(std::move(client));
  }
}

void DatagramClients::ask(size_t index) {
  Client& client = clients_[index];
  ASSERT_FALSE(client.waits);
  client.number = asked_++;
  client.waits = true;
  EXPECT_EQ(::send(client.fd.get(), &client.number, sizeof client.number, 0), ssize_t{sizeof client.number})
      << std::strerror(errno);
}

void DatagramClients::ask_all() {
  for (size_t i = 0; i < clients_.size(); ++i) ask(i);
}

void DatagramClients::step(uint32_t questions) {
  std::vector<pollfd> interests;
  for (const auto& client : clients_) interests.push_back({.fd = client.fd.get(), .events = POLLIN, .revents = 0});
  while (::poll(interests.data(), interests.size(), all_answered() ? 0 : kMoment_ms) > 0) {
    for (size_t i = 0; i < clients_.size(); ++i) {
      Client& client = clients_[i];
      Answer answer{};
      if (interests[i].revents == 0 || ::recv(client.fd.get(), &answer, sizeof answer, 0) != sizeof answer) continue;
      if (!client.waits || answer.number != client.number) {
        ++unexpected_;
        continue;
      }
      ++answered_;
      client.waits = false;
      client.worker = answer.who.worker;
      if (asked_ < questions) ask(i);
    }
  }
}

std::vector<unsigned> DatagramClients::per_worker() const {
  std::vector<unsigned> count;
  for (const auto& client : clients_) {
    if (client.worker >= count.size()) count.resize(client.worker + 1);
    ++count[client.worker];
  }
  return count;
}

std::string DatagramClients::describe() const {
  return "asked " + std::to_string(asked_) + ", answered " + std::to_string(answered_) + ", unexpected " +
         std::to_string(unexpected_) + "\n";
}

void reply_one(Worker& worker, DatagramSocket& socket, const Datagram& question, std::span<const std::byte> bytes, Board& board) {
  Answer answer{.number = 0, .who = {.worker = worker.id(), .pid = ::getpid()}};
  if (bytes.size() != sizeof answer.number) {
    board.fail("a question of " + std::to_string(bytes.size()) + " bytes");
    return;
  }
  std::memcpy(&answer.number, bytes.data(), sizeof answer.number);
  ++board.served[answer.number % Board::kNumbers];
  ++board.accepted[worker.id()];
  if (const auto sent = socket.reply(question, std::as_bytes(std::span(&answer, 1))); !sent)
    board.fail("reply: " + sent.error().message());
}

int reply_all(Worker& worker, DatagramSocket& socket, Style style, Board& board) {
  board.port[worker.id()] = socket.address().port();
  if (style != Style::blocking) return reply_watching(worker, socket, board);
  std::array<std::byte, 64> buffer{};
  while (const auto question = socket.receive(buffer))
    reply_one(worker, socket, *question, std::span(buffer).first(question->size), board);
  if (socket.error().code != 0) return board.fail("receive: " + socket.error().message());
  return socket.drained() ? 0 : board.fail("receive() is empty, but the worker is not drained");
}

WorkerFunction replying(Style style, Board& board, std::string endpoint, DatagramOptions options) {
  return [=, &board](Worker& worker) {
    auto socket = worker.bind(endpoint, options);
    if (!socket) return board.fail(socket.error().message());
    return reply_all(worker, *socket, style, board);
  };
}

}  // namespace lb::test
