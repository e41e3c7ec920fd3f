// SPDX-License-Identifier: MIT
#pragma once

#include <poll.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <lb/endpoint.hh>
#include <lb/unique_fd.hh>
#include <string>
#include <vector>

#include "wire.hh"

namespace lb::test {

/// One connection of a client, non-blocking, so that one process can be primary and clients at once.
class Client {
 public:
  enum class State {
    connecting,  ///< the handshake is not over
    connected,   ///< no worker has accepted it, as far as the client knows
    greeted,     ///< a worker has it
    answered,    ///< the worker has repeated the number
    finished,    ///< and has closed: all is well
    refused,     ///< nobody listened
    lost,        ///< connected, and then not served: what a cluster must not do
    left,        ///< the client went away by itself
  };

  /// Begins to connect.
  Client(const Endpoint& to, Number number);
  /// The same from a local address (IPv4).
  Client(const Endpoint& to, Number number, const std::string& from);

  /// Sends the number, once, when connected. Until then the worker waits: blocking workers are busy.
  void ask();
  /// Goes on as far as it can without waiting.
  void step();
  /// Closes, whatever has been said; workers see the end even if a forked process has a copy of the socket.
  void leave();

  State state() const noexcept { return state_; }
  bool over() const noexcept { return state_ >= State::finished; }
  bool greeted() const noexcept { return worker_ != 0; }
  uint32_t worker() const noexcept { return worker_; }  ///< the worker that has it; 0 until greeted
  pid_t worker_pid() const noexcept { return pid_; }
  Number number() const noexcept { return number_; }
  pollfd interest() const noexcept;
  /// The client's own address.
  Endpoint address() const;
  std::string describe() const;

 private:
  void finish_connecting();
  bool receive();
  void end(State state, int error = 0);

  UniqueFd fd_;
  State state_ = State::connecting;
  Number number_;
  bool asked_ = false;
  bool sent_ = false;
  uint32_t worker_ = 0;
  pid_t pid_ = 0;
  int error_ = 0;
  std::array<unsigned char, sizeof(Hello) + sizeof(Number)> in_{};
  size_t received_ = 0;
};

/// Several clients of one process.
class Crowd {
 public:
  /// Begins `count` connections, numbered on from the last.
  void connect(const Endpoint& to, size_t count);
  void connect_from(const std::string& address, const Endpoint& to);
  void ask_all();
  void leave_all();
  void step();

  size_t count(Client::State state) const noexcept;
  size_t greeted() const noexcept;
  bool all(Client::State state) const noexcept { return count(state) == clients_.size(); }
  size_t size() const noexcept { return clients_.size(); }
  Client& operator[](size_t index) noexcept { return clients_[index]; }
  /// How many each worker has or had: index is the worker's id.
  std::vector<unsigned> per_worker() const;
  /// The first client that worker has and has not answered.
  Client* of_worker(uint32_t worker) noexcept;
  auto begin() noexcept { return clients_.begin(); }
  auto end() noexcept { return clients_.end(); }
  std::string describe() const;

 private:
  std::vector<Client> clients_;
};

}  // namespace lb::test
