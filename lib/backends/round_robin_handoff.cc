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

bool RoundRobinBackend::has_room(const Peer& peer, uint64_t now) const noexcept {
  return peer.ready && peer.handed.empty() && now >= peer.paused_until_ns &&
         atomic(around_.scoreboard.page(peer.seat.slot).cells[request_.cell].waiting).load() != 0 && spare(peer) != 0;
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

RoundRobinBackend::Peer* RoundRobinBackend::pick(uint64_t now) noexcept {
  Peer* best = nullptr;
  const bool least_loaded = request_.policy.selector == Selector::least_loaded;
  for (size_t i = 0; i < peers_.size(); ++i) {
    const size_t index = (cursor_ + i) % peers_.size();
    Peer& peer = *peers_[index];
    if (!has_room(peer, now)) continue;
    if (best != nullptr && !less_loaded(peer, *best)) continue;
    best = &peer;
    if (!least_loaded) break;
  }
  if (best != nullptr)
    cursor_ = (static_cast<size_t>(std::find_if(peers_.begin(), peers_.end(), [&](auto& p) { return p.get() == best; }) -
                                   peers_.begin()) +
               1) %
              peers_.size();
  return best;
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
  peer.packet.entry[peer.packet.count++] = {claim->index(), claim->word(), waiting.again ? 1U : 0U};
  peer.handed.push_back({std::move(waiting.fd), waiting.since_ns, *claim});
  return true;
}

void RoundRobinBackend::send(Peer& peer, uint64_t now) noexcept {
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
    Peer* peer = pick(now);
    if (peer == nullptr) break;
    const size_t share = queue_.size() / peers_.size();
    if (!hand_off(*peer, std::clamp<size_t>(share, 1, around_.window), now)) break;
  }
}

}  // namespace lb
