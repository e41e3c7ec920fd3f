// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <lb/connection.hh>
#include <lb/worker.hh>
#include <string>

#include "http_request.hh"

namespace example {

using Clock = std::chrono::steady_clock;

/// One client: reads requests, answers them in order, and never waits for the socket.
class HttpSession {
 public:
  enum class Wants { read, write, close };

  /// `connection` must be non-blocking, as Listener::try_accept gives it.
  HttpSession(lb::Connection connection, lb::Worker& worker) noexcept : connection_(std::move(connection)), worker_(&worker) {}

  int fd() const noexcept { return connection_.fd(); }

  /// Reads, answers and writes until the socket has no more for now, and says what to wait for.
  /// When `leaving`, the next answer is the last: it carries `Connection: close`.
  Wants proceed(bool leaving);

  /// Between requests: what an idle keep-alive connection is.
  bool idle() const noexcept { return answered_ && in_.empty() && out_.empty() && body_left_ == 0; }

  /// True when nothing has moved for longer than the state it is in permits.
  bool overdue(Clock::time_point now, bool leaving) const noexcept;

 private:
  enum class Received { some, none, end };

  Received receive();
  bool flush();
  bool answer_next(bool leaving);
  void answer(const HttpRequest& request, bool leaving);
  void stay_busy(std::chrono::microseconds time, bool asleep);
  void respond(const HttpRequest& request, bool leaving, int status, std::string_view body);
  void refuse(int status);
  Wants linger();

  lb::Connection connection_;
  lb::Worker* worker_;
  std::string in_;               // received and not yet consumed
  std::string out_;              // answered and not yet sent
  std::uint64_t body_left_ = 0;  // of a request that has been answered: to be skipped
  bool answered_ = false;
  bool last_ = false;       // nothing is answered after what is in out_
  bool refused_ = false;    // a request could not be understood
  bool lingering_ = false;  // our end is closed; see linger()
  std::size_t lingered_bytes_ = 0;
  Clock::time_point moved_ = Clock::now();
};

}  // namespace example
