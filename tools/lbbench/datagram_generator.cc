// SPDX-License-Identifier: MIT
#include "datagram_generator.hh"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "clock.hh"
#include "promptness.hh"

namespace lbbench {
namespace {

constexpr uint64_t kTimeoutNs = 1'000'000'000;  // what is lost on loopback stays lost
constexpr uint64_t kLookNs = 50'000'000;
constexpr int kEventsMax = 64;

}  // namespace

DatagramGenerator::DatagramGenerator(const GeneratorPlan& plan, unsigned flows)
    : plan_(plan), recorder_(plan.records), epoll_(epoll_create1(EPOLL_CLOEXEC)), flows_(std::max(flows, 1U)) {
  be_prompt();
}

uint64_t DatagramGenerator::elapsed_ns() const { return now_ns() - plan_.origin_ns; }

int DatagramGenerator::run() {
  if (!epoll_) return 1;
  const timespec origin = to_timespec(plan_.origin_ns);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &origin, nullptr) == EINTR) {
  }
  while (!plan_.stop->load(std::memory_order_relaxed)) {
    const uint64_t now = elapsed_ns();
    send_due(now);
    give_up(now);
    if (oldest_ == plan_.trace.size()) break;
    wait(elapsed_ns());
  }
  return 0;
}

void DatagramGenerator::send_due(uint64_t now) {
  for (; next_ < plan_.trace.size() && plan_.trace[next_].at_ns <= now; ++next_) {
    send(next_, flows_[next_ % flows_.size()], now);
    now = elapsed_ns();
  }
}

void DatagramGenerator::send(size_t index, Flow& flow, uint64_t now) {
  const Arrival& arrival = plan_.trace[index];
  recorder_.begun(index, arrival.at_ns, now);
  const bool over = flow.sent >= kFlowLength && flow.waiting == 0;
  if ((!flow.fd || over) && !open(flow)) return recorder_.lost(index, now, Outcome::not_begun);
  const DatagramRequest request{.service_ns = arrival.service_ns, .id = index};
  const ssize_t n = ::send(flow.fd.get(), &request, sizeof request, MSG_NOSIGNAL);
  if (n != sizeof request) return recorder_.lost(index, now, errno == ECONNREFUSED ? Outcome::refused : Outcome::not_begun);
  ++flow.sent;
  ++flow.waiting;
}

bool DatagramGenerator::open(Flow& flow) {
  flow = Flow{.fd = lb::UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))};
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(plan_.port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = static_cast<uint64_t>(&flow - flows_.data())}};
  return flow.fd && connect(flow.fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 &&
         epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, flow.fd.get(), &event) == 0;
}

void DatagramGenerator::wait(uint64_t now) {
  uint64_t until = now + kLookNs;
  if (next_ < plan_.trace.size()) until = std::min(until, plan_.trace[next_].at_ns);
  const timespec timeout = to_timespec(until > now ? until - now : 0);
  std::array<epoll_event, kEventsMax> events;
  const int n = epoll_pwait2(epoll_.get(), events.data(), kEventsMax, &timeout, nullptr);
  for (int i = 0; i < n; ++i) receive(flows_[events[static_cast<size_t>(i)].data.u64]);
}

/// Answers come in any order. One that was given up, or comes twice, is nobody's any more. An error, a refusal that came back, is
/// taken off the socket here; what it was for is given up in time.
void DatagramGenerator::receive(Flow& flow) {
  DatagramAnswer answer{};
  while (true) {
    const ssize_t n = recv(flow.fd.get(), &answer, sizeof answer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;
    if (n != sizeof answer || answer.id >= next_ || plan_.records[answer.id].outcome != Outcome::pending) continue;
    recorder_.answered(answer.id, elapsed_ns(), answer.worker, answer.service_error_ns);
    if (flow.waiting > 0) --flow.waiting;
  }
}

void DatagramGenerator::give_up(uint64_t now) {
  for (; oldest_ < next_; ++oldest_) {
    const Record& record = plan_.records[oldest_];
    if (record.outcome != Outcome::pending) continue;
    if (record.intended_ns + kTimeoutNs > now) return;
    recorder_.lost(oldest_, now, Outcome::timeout);
    Flow& flow = flows_[oldest_ % flows_.size()];
    if (flow.waiting > 0) --flow.waiting;
  }
}

}  // namespace lbbench
