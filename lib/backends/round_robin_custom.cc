// SPDX-License-Identifier: MIT
// round-robin:custom: the program's own rule picks the worker for each connection.
#include "backends/round_robin.hh"
#include "sys/error.hh"
#include "sys/process.hh"

namespace lb {

Result<Endpoint> Incoming::peer() const noexcept {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getpeername(fd_, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return last_error("getpeername");
  return Endpoint::from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), length);
}

/// Each connection is asked about by itself; what was picked goes out in one packet for each worker.
void RoundRobinBackend::dispatch_by_selector() noexcept {
  ask_again_ns_ = 0;
  left_waiting_ = 0;
  if (queue_.empty()) return;
  const uint64_t now = now_ns();
  list_candidates(now);
  bool any = false;
  for (Waiting& waiting : queue_) {
    if (std::none_of(candidates_.begin(), candidates_.end(), [](const Candidate& each) { return each.has_room; })) break;
    Candidate* chosen = ask(waiting, now);
    if (chosen == nullptr) {
      ask_again_ns_ = now + kRetryPause_ns;
      continue;
    }
    const Choice& choice = choices_[static_cast<size_t>(chosen - candidates_.data())];
    if (!pack(*choice.peer, waiting)) {  // no claim word left
      chosen->has_room = false;
      continue;
    }
    any = true;
    ++chosen->handed;
    chosen->has_room = choice.peer->packet.count < choice.room;
  }
  if (any) std::erase_if(queue_, [](const Waiting& waiting) { return !waiting.fd; });
  left_waiting_ = queue_.size();
  for (const Choice& choice : choices_)
    if (choice.peer->packet.count != 0) send(*choice.peer, now);
}

void RoundRobinBackend::list_candidates(uint64_t now) noexcept {
  candidates_.clear();
  choices_.clear();
  const size_t share = peers_.empty() ? 0 : std::max<size_t>(1, queue_.size() / peers_.size());
  for (auto& peer : peers_) {
    if (!peer->ready) continue;
    const auto& page = around_.scoreboard.page(peer->seat.slot);
    peer->had_room = has_room(*peer, now, 1);
    candidates_.push_back({peer->seat.worker, in_flight_of(page), static_cast<uint32_t>(peer->handed.size()),
                           atomic(page.cells[request_.cell].accepted).load(std::memory_order_relaxed), peer->had_room});
    choices_.push_back({peer.get(), peer->had_room ? std::min(share, spare(*peer)) : 0});
  }
}

/// The candidate that is to have the connection; null: it waits.
Candidate* RoundRobinBackend::ask(const Waiting& waiting, uint64_t now) noexcept {
  const auto by_id = [&](uint32_t id) {
    return std::find_if(candidates_.begin(), candidates_.end(), [=](const Candidate& each) { return each.worker == id; });
  };
  try {
    const auto answer = (*around_.selector)(candidates_, Incoming(waiting.fd.get(), socket_.address(), now - waiting.since_ns));
    if (!answer) return nullptr;
    if (const auto found = by_id(*answer); found != candidates_.end() && found->has_room) return &*found;
  } catch (...) {  // the user's: whatever it is, the connection is served
  }
  ++bad_picks_;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    Candidate& next = candidates_[(cursor_ + i) % candidates_.size()];
    if (!next.has_room) continue;
    cursor_ = (cursor_ + i + 1) % candidates_.size();
    return &next;
  }
  return nullptr;
}

}  // namespace lb
