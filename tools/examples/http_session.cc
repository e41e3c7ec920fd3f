// SPDX-License-Identifier: MIT
#include "http_session.hh"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <optional>
#include <string_view>
#include <thread>

namespace example {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kReceiveBytes = 16 * 1024;
constexpr int kReceivesMax = 4;                    // per turn: one busy client must not keep the others waiting
constexpr std::size_t kAnswerHeadBytes = 256;      // of an answer: memory for all of it at once
constexpr std::size_t kOutBytesMax = 64 * 1024;    // a client that pipelines and does not read is not read either
constexpr std::size_t kLingerBytesMax = 1U << 20;  // what is read from a client that was refused and still talks
constexpr auto kBusyMax = std::chrono::microseconds(10s);

// How long nothing may move; draining, a worker waits less.
struct Patience {
  std::chrono::seconds idle, asking, reading;
};
constexpr Patience kPatience{.idle = 60s, .asking = 10s, .reading = 60s};
constexpr Patience kPatienceLeaving{.idle = 0s, .asking = 2s, .reading = 10s};
constexpr auto kLingerTimeout = 2s;

const char* reason_phrase(int status) noexcept {
  switch (status) {
    case 200:
      return "OK";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Bad Request";
  }
}

// RFC 9110, 6.6.1 and 5.6.7. Made once a second: it is the same for all answers until the next.
std::string_view http_date() {
  static std::time_t made = 0;
  static std::array<char, 32> text{};
  static std::size_t size = 0;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (now.tv_sec != made) {
    std::tm utc{};
    ::gmtime_r(&now.tv_sec, &utc);
    size = std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &utc);
    made = now.tv_sec;
  }
  return {text.data(), size};
}

std::optional<std::chrono::microseconds> parse_busy_time(std::string_view text) noexcept {
  std::int64_t us = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), us);
  if (error != std::errc{} || end != text.data() + text.size() || us < 0 || us > kBusyMax.count()) return std::nullopt;
  return std::chrono::microseconds(us);
}

}  // namespace

HttpSession::Wants HttpSession::proceed(bool leaving) {
  if (lingering_) return linger();
  for (int receives = 0;;) {
    while (out_.size() < kOutBytesMax && !last_ && answer_next(leaving)) {
    }
    const bool answer_more = out_.size() >= kOutBytesMax;
    if (!flush()) return Wants::close;
    if (!out_.empty()) return Wants::write;
    if (last_) return linger();
    if (answer_more) continue;
    if (receives++ == kReceivesMax) return Wants::read;
    const auto received = receive();
    if (received == Received::none) return Wants::read;
    if (received == Received::end) return Wants::close;
  }
}

bool HttpSession::overdue(Clock::time_point now, bool leaving) const noexcept {
  const auto& patience = leaving ? kPatienceLeaving : kPatience;
  const auto still = now - moved_;
  if (lingering_) return still > kLingerTimeout;
  if (idle()) return still > patience.idle;
  return still > (out_.empty() ? patience.asking : patience.reading);
}

HttpSession::Received HttpSession::receive() {
  std::array<char, kReceiveBytes> bytes;
  const auto got = ::recv(fd(), bytes.data(), bytes.size(), 0);
  if (got == 0) return Received::end;
  if (got < 0) return errno == EAGAIN || errno == EINTR ? Received::none : Received::end;
  moved_ = Clock::now();
  in_.append(bytes.data(), static_cast<std::size_t>(got));
  const auto skipped = std::min<std::uint64_t>(body_left_, in_.size());
  in_.erase(0, skipped);
  body_left_ -= skipped;
  return Received::some;
}

// Sends what the socket takes; false when the client is gone.
bool HttpSession::flush() {
  std::size_t sent = 0;
  while (sent < out_.size()) {
    const auto wrote = ::send(fd(), out_.data() + sent, out_.size() - sent, MSG_NOSIGNAL);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && errno == EAGAIN) break;
    if (wrote < 0) return false;
    sent += static_cast<std::size_t>(wrote);
    moved_ = Clock::now();
  }
  out_.erase(0, sent);
  return true;
}

// Answers the first request in hand; false when there is no whole one.
bool HttpSession::answer_next(bool leaving) {
  if (body_left_ > 0 || in_.empty()) return false;
  auto parsed = parse_http_request(in_);
  if (parsed.state == HttpParse::State::incomplete) return false;
  if (parsed.state == HttpParse::State::error) {
    refuse(parsed.status);
    return true;
  }
  answer(parsed.request, leaving);
  const auto whole = parsed.request.head_bytes + parsed.request.body_bytes;
  const auto consumed = std::min<std::uint64_t>(whole, in_.size());
  in_.erase(0, consumed);
  body_left_ = whole - consumed;
  answered_ = true;
  return true;
}

void HttpSession::answer(const HttpRequest& request, bool leaving) {
  const auto respond_with = [&](int status, std::string_view body) { respond(request, leaving, status, body); };
  if (request.method != "GET" && request.method != "HEAD") return respond_with(405, "only GET and HEAD\n");
  if (request.path == "/") return respond_with(200, "hello\n");
  const bool sleep = request.path.starts_with("/sleep/");
  const bool spin = request.path.starts_with("/spin/");
  if (!sleep && !spin) return respond_with(404, "try /, /sleep/MICROSECONDS or /spin/MICROSECONDS\n");
  const auto busy = parse_busy_time(request.path.substr(request.path.rfind('/') + 1));
  if (!busy) return respond_with(400, "want 0 to 10000000 microseconds\n");
  stay_busy(*busy, sleep);
  respond_with(200, "done\n");
}

// On purpose this holds up the whole worker, as a request that computes would: it is what makes the policies differ.
void HttpSession::stay_busy(std::chrono::microseconds time, bool asleep) {
  (void)flush();
  const auto until = Clock::now() + time;
  if (asleep) std::this_thread::sleep_until(until);
  while (Clock::now() < until) {
  }
  (void)worker_->dispatch();  // told to leave meanwhile? The answer then says so. An error shows in the event loop.
}

void HttpSession::respond(const HttpRequest& request, bool leaving, int status, std::string_view body) {
  last_ = !request.keep_alive || leaving || worker_->draining();
  out_.reserve(out_.size() + kAnswerHeadBytes + body.size());
  out_ += "HTTP/1.1 ";
  out_ += std::to_string(status);
  out_ += ' ';
  out_ += reason_phrase(status);
  out_ += "\r\nContent-Type: text/plain\r\nContent-Length: ";
  out_ += std::to_string(body.size());
  out_ += "\r\nDate: ";
  out_ += http_date();
  out_ += "\r\nX-Worker: ";
  out_ += std::to_string(worker_->id());
  if (status == 405) out_ += "\r\nAllow: GET, HEAD";
  if (last_) out_ += "\r\nConnection: close";
  if (!last_ && request.minor_version == 0) out_ += "\r\nConnection: keep-alive";
  out_ += "\r\n\r\n";
  if (request.method != "HEAD") out_ += body;
}

// What came cannot be understood, so neither can what follows it.
void HttpSession::refuse(int status) {
  respond({}, true, status, "");
  refused_ = true;
}

// After the last answer. To close a socket that has unread bytes, or gets more, resets it, and a client loses an answer
// that it has not read yet: with more to come, close our end only and read on until the client has closed its own.
HttpSession::Wants HttpSession::linger() {
  if (!lingering_) {
    if (in_.empty() && body_left_ == 0 && !refused_) return Wants::close;
    lingering_ = true;
    ::shutdown(fd(), SHUT_WR);
  }
  std::array<char, kReceiveBytes> bytes;
  for (int receives = 0; receives < kReceivesMax; ++receives) {
    const auto got = ::recv(fd(), bytes.data(), bytes.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Wants::read;
    if (got <= 0) return Wants::close;
    lingered_bytes_ += static_cast<std::size_t>(got);
    if (lingered_bytes_ > kLingerBytesMax) return Wants::close;
  }
  return Wants::read;
}

}  // namespace example
