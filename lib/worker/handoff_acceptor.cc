// SPDX-License-Identifier: MIT
// round-robin: connections come from the primary, in packets of one or more, each with a claim word that says whose it is
// (backends/round_robin tells the whole story). The primary publishes whether it is awake, so that a worker needs no system
// call to tell it what it is about to see anyway.
#include <sys/epoll.h>

#include <vector>

#include "sys/doorbell.hh"
#include "sys/error.hh"
#include "sys/socket.hh"
#include "wire/handoff.hh"
#include "worker/acceptor.hh"

namespace lb {
namespace {

class HandoffAcceptor final : public Acceptor {
 public:
  HandoffAcceptor(Workplace& place, uint32_t cell, UniqueFd channel) : place_(place), cell_(cell), channel_(std::move(channel)) {}
  ~HandoffAcceptor() override { give_back(); }

  Result<Arrived> take(bool nonblocking) noexcept override;
  Result<void> join(int epoll_fd, uint64_t data) noexcept override;
  void rest() noexcept override;
  bool must_empty(bool) const noexcept override { return true; }
  void leave() noexcept override {
    give_back();
    for (const int epoll_fd : lines_) ::epoll_ctl(epoll_fd, EPOLL_CTL_DEL, channel_.get(), nullptr);
    lines_.clear();
  }

 private:
  Claim claim(size_t i) noexcept {
    const auto& entry = packet_.entry[i];
    return {place_.page().claims[entry.index % LB_MAX_CLAIMS], entry.index, entry.word};
  }
  Result<void> receive() noexcept;
  void give_back() noexcept;
  const std::atomic<uint32_t>& work() noexcept { return atomic(place_.board.primary().work[cell_]); }
  void ring_if_asleep() noexcept {
    if (atomic(place_.board.primary().awake).load() != 0) return;
    Doorbell::ring(place_.doorbell.get());
  }

  Workplace& place_;
  uint32_t cell_;
  UniqueFd channel_;
  HandoffPacket packet_;
  Packet received_;  // the descriptors of packet_
  size_t next_ = 0;  // the first of them not yet yielded
  std::vector<int> lines_;
};

Result<Arrived> HandoffAcceptor::take(bool nonblocking) noexcept {
  auto& waiting = atomic(place_.page().cells[cell_].waiting);
  for (;;) {
    if (next_ == packet_.count) {
      if (auto got = receive(); !got) return got.error();
      if (next_ == packet_.count) return Arrived();
    }
    const size_t i = next_++;
    UniqueFd fd = std::move(received_.fds[i]);
    const uint32_t flags = packet_.entry[i].flags;
    // Said before the claim, so that the primary, when it sees the one, sees the other.
    waiting.store(nonblocking ? LB_WAITING_IN_LOOP : LB_WAITING_BLOCKED);
    if (!claim(i).take()) continue;  // revoked: another worker has it
    // The primary still holds its copy, which would keep the connection in an epoll instance after its end. A blocking worker's is
    // seldom in one, so there it is enough that the primary looks soon, and it is woken only if it has something to give.
    if (nonblocking || ((flags & HandoffPacket::kAskForMore) != 0 && work().load() != 0)) ring_if_asleep();
    if (!nonblocking) {
      if (auto set = set_blocking(fd.get()); !set) return set.error();
    }
    return Arrived{std::move(fd), claim(i).copies((flags & HandoffPacket::kAgain) != 0)};
  }
}

Result<void> HandoffAcceptor::receive() noexcept {
  next_ = packet_.count = 0;
  if (auto got = receive_packet(channel_.get(), &packet_, sizeof packet_, received_); !got) return got;
  if (received_.state != Packet::State::received) return {};  // closed: the primary is gone; the control channel says so too
  if (!packet_.valid(received_.size)) {
    packet_.count = 0;
    return Error{EBADMSG, "hand-off"};
  }
  if (received_.fd_count >= packet_.count) return {};
  // Our descriptor table is full: the kernel dropped the rest of the packet's. The primary still has them.
  for (size_t i = received_.fd_count; i < packet_.count; ++i) claim(i).refuse();
  packet_.count = static_cast<uint32_t>(received_.fd_count);
  ring_if_asleep();
  if (packet_.count == 0) return Error{EMFILE, "hand-off"};
  return {};
}

void HandoffAcceptor::rest() noexcept {
  auto& waiting = atomic(place_.page().cells[cell_].waiting);
  if (waiting.load(std::memory_order_relaxed) != LB_WAITING_IDLE) waiting.store(LB_WAITING_IDLE);
  if (work().load() != 0) ring_if_asleep();
}

void HandoffAcceptor::give_back() noexcept {
  atomic(place_.page().cells[cell_].waiting).store(LB_WAITING_NOT);
  bool refused = false;
  for (; next_ < packet_.count; ++next_) {
    refused |= claim(next_).refuse();
    received_.fds[next_].reset();
  }
  if (refused) ring_if_asleep();
}

Result<void> HandoffAcceptor::join(int epoll_fd, uint64_t data) noexcept {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = data;
  if (::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, channel_.get(), &event) != 0) return last_error("epoll_ctl");
  lines_.push_back(epoll_fd);
  return {};
}

}  // namespace

Result<std::unique_ptr<Acceptor>> make_handoff_acceptor(Workplace& place, const Message& answer, Packet& packet) noexcept {
  if (packet.fd_count != 1) return Error{EPROTO, "listener: one channel"};
  return std::unique_ptr<Acceptor>(std::make_unique<HandoffAcceptor>(place, answer.endpoint, std::move(packet.fds[0])));
}

}  // namespace lb
