// SPDX-License-Identifier: MIT
// Round-robin's hand-offs: who gets a connection, and what becomes of it until it is taken.
#include "backends/round_robin.hh"
#include "sys/process.hh"
#include "wire/channel.hh"

namespace lb {

/// Sees what has become of a worker's hand-offs; true if anything has.
bool RoundRobinBackend::collect(Peer& peer) noexcept {
  bool news = false;
  std::erase_if(peer.handed, [&](Handed& handed) {
    switch (handed.claim.state()) {
      case LB_CLAIM_SENT:
        return false;
      case LB_CLAIM_REFUSED:
        put_back(std::move(handed));
        peer.paused_until_ns = now_ns() + kRetryPause_ns;
        break;
      default:
        peer.stall_pause_ns = kStallPauseMin_ns;
        peer.slow = false;
        break;
    }
    handed.fd.reset();  // our copy first: the word's end tells the worker that there is none
    handed.claim.free();
    news = true;
    return true;
  });
  return news;
}

/// Takes back all that a worker has not taken, and the packets it has not read: their copies would keep clients from their FIN.
void RoundRobinBackend::take_back(Peer& peer) noexcept {
  for (auto handed = peer.handed.rbegin(); handed != peer.handed.rend(); ++handed)
    if (handed->claim.revoke() || handed->claim.state() == LB_CLAIM_REFUSED) put_back(std::move(*handed));
  for (auto& handed : peer.handed) {
    handed.fd.reset();
    handed.claim.free();
  }
  peer.handed.clear();
  HandoffPacket packet;
  Packet unread;
  while (receive_packet(peer.worker_end.get(), &packet, sizeof packet, unread) && unread.state == Packet::State::received)
    for (size_t i = 0; i < unread.fd_count; ++i) unread.fds[i].reset();
}

/// Back into the queue where its age says.
void RoundRobinBackend::put_back(Handed&& handed) noexcept {
  auto place = queue_.begin();
  while (place != queue_.end() && place->since_ns < handed.since_ns) ++place;
  queue_.insert(place, {std::move(handed.fd), handed.since_ns, true});
}

/// Who is idle has room. A busy worker may be handed one ahead of time, more while the queue is long (a share of two or more for each),
/// so that it need not wait for us when it is done. An event loop is busy until try_accept finds nothing; who does not call it again
/// (or computes for long) counts as idle after a while.
RoundRobinBackend::Room RoundRobinBackend::room(const Peer& peer, uint64_t now, size_t share) const noexcept {
  if (!peer.ready || now < peer.paused_until_ns || spare(peer) == 0) return Room::none;
  const uint32_t at = waiting(peer).load();
  if (at == LB_WAITING_NOT) return Room::none;
  if (peer.handed.empty() && (at == LB_WAITING_IDLE || (at == LB_WAITING_IN_LOOP && now - peer.handed_ns >= kInLoopMax_ns)))
    return Room::idle;
  const bool may = around_.window > 1 && !custom() && !peer.slow && at != LB_WAITING_IDLE;
  return may && peer.handed.size() <= share / 2 ? Room::ahead : Room::none;
}

/// Idle workers are to have what has waited longest, also when that is on its way to busy ones.
void RoundRobinBackend::recall(uint64_t now) noexcept {
  if (custom() || std::none_of(peers_.begin(), peers_.end(), [this](const auto& p) { return has_ahead(*p); })) return;
  const size_t idle = count_idle(now);
  for (size_t i = 0; i < idle; ++i) {
    Peer* oldest = nullptr;
    for (auto& peer : peers_)
      if (has_ahead(*peer) && (oldest == nullptr || peer->handed.front().since_ns < oldest->handed.front().since_ns))
        oldest = peer.get();
    if (oldest == nullptr) return;
    if (i < queue_.size() && queue_[i].since_ns <= oldest->handed.front().since_ns) continue;
    take_back(*oldest);
    oldest->slow = true;
  }
}

/// How many more connections a worker may be handed without exceeding max_in_flight. What is on its way to it counts, from other
/// endpoints too. Read in this order: a connection is charged before it is claimed, so it may count twice, but is not missed.
size_t RoundRobinBackend::spare(const Peer& peer) const noexcept {
  if (around_.max_in_flight == 0) return around_.window;
  const auto& page = around_.scoreboard.page(peer.seat.slot);
  const auto sent = std::count_if(std::begin(page.claims), std::end(page.claims), Claim::is_sent);
  const uint64_t held = static_cast<uint64_t>(sent) + in_flight_of(around_.scoreboard.page(peer.seat.slot));
  return held >= around_.max_in_flight ? 0 : std::min<size_t>(around_.window, around_.max_in_flight - held);
}

/// Before the primary sleeps on connections that wait for a worker's load to fall: from here on, the worker rings when it does. The
/// mark is in the word that counts, so a close comes either before it, and is seen now, or after it, and rings.
void RoundRobinBackend::ask_for_a_ring(Peer& peer) noexcept {
  if (spare(peer) == 0) atomic(around_.scoreboard.page(peer.seat.slot).in_flight).fetch_or(LB_RING_WHEN_LESS);
}

/// By load / weight.
bool RoundRobinBackend::less_loaded(const Peer& peer, const Peer& than) const noexcept {
  const Scoreboard& board = around_.scoreboard;
  return board.load(peer.seat.slot) * board.pull(than.seat.slot) < board.load(than.seat.slot) * board.pull(peer.seat.slot);
}

/// An idle worker, by the selector; else the busy one that was handed something last, for most requests are short.
RoundRobinBackend::Peer* RoundRobinBackend::pick(uint64_t now, size_t share) noexcept {
  size_t best = peers_.size();
  Room best_room = Room::none;
  const bool least_loaded = request_.policy.selector == Selector::least_loaded;
  for (size_t i = 0; i < peers_.size(); ++i) {
    const size_t index = (cursor_ + i) % peers_.size();
    const Peer& peer = *peers_[index];
    const Room has = room(peer, now, share);
    if (has == Room::none || has < best_room) continue;
    if (has == best_room && !(has == Room::ahead ? peer.handed_ns > peers_[best]->handed_ns : less_loaded(peer, *peers_[best])))
      continue;
    best = index;
    best_room = has;
    if (has == Room::idle && !least_loaded) break;
  }
  if (best == peers_.size()) return nullptr;
  if (best_room == Room::idle) cursor_ = (best + 1) % peers_.size();
  return peers_[best].get();
}

bool RoundRobinBackend::hand_off(Peer& peer, size_t batch, uint64_t now) noexcept {
  batch = std::min(batch, spare(peer));
  while (peer.packet.count < batch && !queue_.empty() && pack(peer, queue_.front())) queue_.pop_front();
  if (peer.packet.count == 0) return false;
  send(peer, now);
  return true;
}

/// Into the worker's next packet; false when it has no claim word left.
bool RoundRobinBackend::pack(Peer& peer, Waiting& waiting) noexcept {
  auto claim = Claim::find_free(claims(peer));
  if (!claim) return false;
  peer.packed[peer.packet.count] = waiting.fd.get();
  peer.packet.entry[peer.packet.count++] = {claim->index(), claim->word(), waiting.again ? HandoffPacket::kAgain : 0};
  peer.handed.push_back({std::move(waiting.fd), waiting.since_ns, *claim});
  return true;
}

void RoundRobinBackend::send(Peer& peer, uint64_t now) noexcept {
  const size_t few = peer.handed.size() / 2;
  peer.packet.entry[peer.packet.count > few ? peer.packet.count - 1 - few : 0].flags |= HandoffPacket::kAskForMore;
  const auto sent = send_packet(peer.channel.get(), &peer.packet, peer.packet.size(), {peer.packed, peer.packet.count});
  const uint32_t count = std::exchange(peer.packet.count, 0);
  if (sent) {
    peer.handed_ns = now;
    peer.picks += count;
    return;
  }
  // Full, out of memory, or too many descriptors in flight (ETOOMANYREFS): it counts as full for a while.
  take_back(peer);
  peer.paused_until_ns = now + kRetryPause_ns;
  ++retried_;
}

void RoundRobinBackend::dispatch() noexcept {
  if (custom()) return dispatch_by_selector();
  const uint64_t now = now_ns();
  while (!queue_.empty()) {
    const size_t each = share();
    Peer* peer = pick(now, each);
    if (peer == nullptr) break;
    if (!hand_off(*peer, each - std::min(each - 1, peer->handed.size()), now))
      peer->paused_until_ns = now + kRetryPause_ns;  // no claim word is free, or so its page says: the others go on
  }
}

}  // namespace lb
