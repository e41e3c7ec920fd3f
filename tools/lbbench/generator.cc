// SPDX-License-Identifier: MIT
#include "generator.hh"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>

#include "clock.hh"
#include "promptness.hh"

namespace lbbench {
namespace {

constexpr uint64_t kTimeoutNs = 5'000'000'000;
constexpr uint64_t kLookNs = 50'000'000;
constexpr size_t kClientsMax = 1 << 16;
constexpr rlim_t kOtherFds = 32;
constexpr int kEventsMax = 64;

size_t clients_max(const GeneratorPlan& plan) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  const size_t wanted = plan.clients > 0 ? plan.clients : plan.trace.size();
  return std::min({wanted, kClientsMax, static_cast<size_t>(files.rlim_cur - std::min(files.rlim_cur, kOtherFds))});
}

Outcome outcome_of(int error) {
  if (error == ECONNREFUSED) return Outcome::refused;
  return error == ETIMEDOUT ? Outcome::timeout : Outcome::reset;
}

}  // namespace

Generator::Generator(const GeneratorPlan& plan)
    : plan_(plan), recorder_(plan.records), epoll_(epoll_create1(EPOLL_CLOEXEC)), clients_(clients_max(plan)) {
  be_prompt();
  for (size_t i = clients_.size(); i > 0; --i) free_.push_back(i - 1);
  held_.reserve(plan_.trace.size());
  client_of_.resize(plan_.trace.size());
}

uint64_t Generator::elapsed_ns() const { return now_ns() - plan_.origin_ns; }

int Generator::run() {
  if (!epoll_) return 1;
  const timespec origin = to_timespec(plan_.origin_ns);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &origin, nullptr) == EINTR) {
  }
  while (!plan_.stop->load(std::memory_order_relaxed)) {
    const uint64_t now = elapsed_ns();
    begin_due(now);
    ask_due(now);
    if (open_ == 0 && !may_begin(now)) break;
    wait(now);
    if (const uint64_t later = elapsed_ns(); later >= next_look_ns_) look_after_clients(later);
  }
  return 0;
}

/// Whether any connection is still to begin, now or later.
bool Generator::may_begin(uint64_t now) const {
  if (plan_.clients == 0) return next_ < plan_.trace.size();
  return now < plan_.end_ns && next_ < recorder_.capacity();
}

void Generator::begin_due(uint64_t now) {
  if (plan_.clients == 0) {
    for (; next_ < plan_.trace.size() && plan_.trace[next_].at_ns <= now; ++next_) {
      begin(plan_.trace[next_], now);
      now = elapsed_ns();
    }
    return;
  }
  for (; open_ + resting_ < plan_.clients && may_begin(now); ++next_) {
    begin({.at_ns = now, .service_ns = 0}, now);
    now = elapsed_ns();
  }
}

void Generator::begin(const Arrival& arrival, uint64_t now) {
  recorder_.begun(next_, arrival.ask_ns(), now);
  if (free_.empty()) return recorder_.lost(next_, now, Outcome::not_begun);
  Client& client = clients_[free_.back()];
  client = {.record = next_,
            .begun_ns = arrival.ask_ns(),
            .service_ns = arrival.service_ns / plan_.requests,
            .requests_left = plan_.requests};
  client.due = arrival.ask_ns() <= now;
  if (!open_socket(client)) {
    if (plan_.clients > 0) ++resting_;
    return recorder_.lost(next_, now, Outcome::not_begun);
  }
  free_.pop_back();
  ++open_;
  if (!client.due) {
    client_of_[next_] = static_cast<size_t>(&client - clients_.data());
    held_.emplace_back(arrival.ask_ns(), next_);
    std::ranges::push_heap(held_, std::greater{});
  } else if (!send_request(client) && client.fd < 0) {  // on loopback the handshake is often over by now
    return;
  }
  epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = static_cast<uint64_t>(&client - clients_.data())}};
  if (!client.sent) event.events |= EPOLLOUT;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, client.fd, &event) != 0) lose(client, Outcome::not_begun);
}

/// Of those held open, who has been lost meanwhile has another's client by now, or none.
void Generator::ask_due(uint64_t now) {
  while (!held_.empty() && held_.front().first <= now) {
    const auto [ask_ns, record] = held_.front();
    std::ranges::pop_heap(held_, std::greater{});
    held_.pop_back();
    Client& client = clients_[client_of_[record]];
    if (client.fd < 0 || client.record != record) continue;
    client.due = true;
    recorder_.begun(record, ask_ns, now);
    advance(client);
    now = elapsed_ns();
  }
}

bool Generator::open_socket(Client& client) const {
  lb::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return false;
  // The server closes first; our close then sends RST, so that no TIME_WAIT uses up the ports.
  const linger reset{.l_onoff = 1, .l_linger = 0};
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(plan_.port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS && errno != ECONNREFUSED)
    return false;
  client.fd = fd.release();
  return true;
}

void Generator::wait(uint64_t now) {
  uint64_t until = std::max(next_look_ns_, now);
  if (plan_.clients == 0 && next_ < plan_.trace.size()) until = std::min(until, plan_.trace[next_].at_ns);
  if (!held_.empty()) until = std::min(until, held_.front().first);
  const timespec timeout = to_timespec(until > now ? until - now : 0);
  std::array<epoll_event, kEventsMax> events;
  const int n = epoll_pwait2(epoll_.get(), events.data(), kEventsMax, &timeout, nullptr);
  for (int i = 0; i < n; ++i) advance(clients_[events[static_cast<size_t>(i)].data.u64]);
}

void Generator::advance(Client& client) {
  while (client.fd >= 0) {
    if (client.due && !client.sent && !send_request(client)) return;
    if (!read_answer(client)) return;
  }
}

/// False when it must wait, or the connection is lost.
bool Generator::send_request(Client& client) {
  const bool last = client.requests_left == 1;
  const Request request{.service_ns = client.service_ns, .last = last ? 1U : 0U};
  std::array<char, kHttpRequestMax> text;
  std::span<const std::byte> bytes = std::as_bytes(std::span(&request, 1));
  if (plan_.http) {
    const uint64_t ask_ns = client.service_ns - std::min(client.service_ns, plan_.service_less_ns);
    bytes = std::as_bytes(std::span(text).first(write_http_request(text, plan_.work, ask_ns, last)));
  }
  const ssize_t n = send(client.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  client.sent = n == static_cast<ssize_t>(bytes.size());  // less than all cannot be: the socket's buffer is empty
  if (n < 0 && errno != EAGAIN && errno != EINPROGRESS && errno != ENOTCONN) lose(client, outcome_of(errno));
  return client.sent;
}

/// False when it must wait, or the connection has ended.
bool Generator::read_answer(Client& client) {
  const size_t most = plan_.http || client.answered ? bytes_.size() : sizeof client.answer - client.have;
  const ssize_t n = recv(client.fd, bytes_.data(), most, 0);
  if (n < 0 && errno == EINTR) return true;
  if (n < 0 && errno == EAGAIN) return false;
  if (client.answered) {
    release(client);
    return false;
  }
  if (n <= 0) {
    lose(client, n == 0 ? Outcome::reset : outcome_of(errno));
    return false;
  }
  if (whole(client, std::span(bytes_).first(static_cast<size_t>(n)))) next_request(client);
  return client.fd >= 0;
}

/// Takes what came in. True when it makes the answer whole; one that cannot be understood loses the connection.
bool Generator::whole(Client& client, std::span<const char> bytes) {
  if (plan_.http) {
    const auto state = client.http_answer.take({bytes.data(), bytes.size()});
    if (state == HttpAnswer::State::broken) lose(client, Outcome::reset);
    client.answer.worker = client.http_answer.worker();
    return state == HttpAnswer::State::complete;
  }
  std::memcpy(reinterpret_cast<char*>(&client.answer) + client.have, bytes.data(), bytes.size());
  client.have += bytes.size();
  if (client.have < sizeof client.answer) return false;
  client.have = 0;
  client.error_ns += client.answer.service_error_ns;
  return true;
}

/// After an answer: asks again, or waits for the server to close.
void Generator::next_request(Client& client) {
  const uint64_t now = elapsed_ns();
  client.answered = --client.requests_left == 0;
  client.sent = client.answered;
  if (client.answered || plan_.each_request)
    recorder_.answered(client.record, now, client.answer.worker, client.error_ns, client.http_answer.bytes());
  client.http_answer.reset();
  if (client.answered || !plan_.each_request) return;
  if (!may_begin(now)) return release(client);
  client.record = next_++;
  client.begun_ns = now;
  client.error_ns = 0;
  recorder_.begun(client.record, now, now);
}

void Generator::lose(Client& client, Outcome why) {
  recorder_.lost(client.record, elapsed_ns(), why);
  if (plan_.clients > 0) ++resting_;
  release(client);
}

void Generator::release(Client& client) {
  close(client.fd);
  client.fd = -1;
  free_.push_back(static_cast<size_t>(&client - clients_.data()));
  --open_;
}

void Generator::look_after_clients(uint64_t now) {
  next_look_ns_ = now + kLookNs;
  resting_ = 0;
  for (auto& client : clients_) {
    if (client.fd < 0 || client.begun_ns + kTimeoutNs > now) continue;
    if (client.answered) {
      release(client);
    } else {
      lose(client, Outcome::timeout);
    }
  }
}

}  // namespace lbbench
