// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <lb/result.hh>

#include "primary/admin_request.hh"
#include "sys/event_loop.hh"
#include "sys/unix_path.hh"

namespace lb {

/// Where operators ask (Options::admin_socket): a UNIX stream socket, mode 0600. A client sends one line, gets one line and is done.
/// Nothing that clients do, or leave undone, holds the primary up: never more than a few of them, each for some seconds at most.
class AdminSocket {
 public:
  /// Answers a request, both without the line's end.
  using Answer = std::function<std::string(std::string_view request)>;

  /// `path`: absolute, or "@name". What a dead primary left there is replaced; EADDRINUSE if a server lives there.
  static Result<std::unique_ptr<AdminSocket>> open(EventLoop& loop, const std::string& path, Answer answer) noexcept;

  /// At the end of each turn of the loop: turns away those that take too long.
  void turn() noexcept;
  /// When `turn` wants to be called next, in ms; negative: it does not.
  int next_turn_ms() const noexcept;

 private:
  struct Client {
    uint64_t id = 0;
    UniqueFd fd;
    uint64_t deadline_ns = 0;
    std::array<char, kAdminRequestMax> request;
    size_t received = 0;
    std::string answer{};
    size_t sent = 0;
  };

  AdminSocket(UnixListener listener, UniqueFd epoll, Answer answer) noexcept
      : listener_(std::move(listener)), epoll_(std::move(epoll)), answer_(std::move(answer)) {}
  void on_readable() noexcept;
  void accept() noexcept;
  void listen(bool on) noexcept;
  void serve(Client& client) noexcept;
  void receive(Client& client) noexcept;
  void send(Client& client) noexcept;
  bool watch(int operation, int fd, uint32_t events, uint64_t id) noexcept;

  UnixListener listener_;
  UniqueFd epoll_;  // of the listener and its clients: all that the primary's loop has to know
  Answer answer_;
  std::vector<std::unique_ptr<Client>> clients_;
  uint64_t last_id_ = 0;
  bool listening_ = false;  // else as many clients as may be are here, or accepting failed
  uint64_t retry_ns_ = 0;   // when to accept again after it failed; 0: it has not
};

}  // namespace lb
