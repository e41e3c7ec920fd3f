// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <lb/lb.hh>
#include <string>
#include <vector>

#include "board.hh"
#include "server.hh"
#include "wire.hh"

namespace lb::test {

inline constexpr const char* kAnyUdpPort = "udp://127.0.0.1:0";
/// Room for what the clients of these tests can have under way at once.
inline constexpr int kRoomy = 1 << 20;

/// A worker repeats the client's number and says who it is.
struct Answer {
  Number number;
  Hello who;
};

/// Clients that ask over UDP: each has a socket of its own, so a flow, and at most one question under way.
class DatagramClients {
 public:
  DatagramClients(const Endpoint& to, size_t count) { add(to, count); }
  void add(const Endpoint& to, size_t count);

  void ask(size_t client);
  void ask_all();
  /// Takes what answers are there, waiting for the first for a moment. Each answered client asks again until `questions` were asked.
  void step(uint32_t questions = 0);

  size_t size() const noexcept { return clients_.size(); }
  uint32_t asked() const noexcept { return asked_; }
  uint32_t answered() const noexcept { return answered_; }
  bool all_answered() const noexcept { return answered_ == asked_; }
  /// Answers that nobody waited for: a question was answered twice.
  uint32_t unexpected() const noexcept { return unexpected_; }
  /// Who answered the client last: a worker's id.
  uint32_t worker(size_t client) const noexcept { return clients_[client].worker; }
  /// How many clients each worker answered last: index is its id.
  std::vector<unsigned> per_worker() const;
  std::string describe() const;

 private:
  struct Client {
    UniqueFd fd;
    Number number = 0;
    bool waits = false;
    uint32_t worker = 0;
  };

  std::vector<Client> clients_;
  uint32_t asked_ = 0;
  uint32_t answered_ = 0;
  uint32_t unexpected_ = 0;
};

/// A worker that binds `endpoint` and answers until it is drained: by receive(), or in an epoll loop with watch().
WorkerFunction replying(Style style, Board& board, std::string endpoint = kAnyUdpPort,
                        DatagramOptions options = {.receive_buffer = kRoomy});
/// The same, for a socket that is bound already. Returns the worker's exit code.
int reply_all(Worker& worker, DatagramSocket& socket, Style style, Board& board);
/// Answers one question and notes it on the board.
void reply_one(Worker& worker, DatagramSocket& socket, const Datagram& question, std::span<const std::byte> bytes, Board& board);

}  // namespace lb::test
