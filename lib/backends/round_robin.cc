// SPDX-License-Identifier: MIT
// The round-robin backend: the primary accepts, holds the one queue, and hands connections to workers that have room.
// The workers' side is in worker/handoff_acceptor.
//
// Exactly once: the primary keeps its copy of a descriptor until the hand-off's claim word says who has the connection. The
// worker turns sent into taken (or refused) by compare-and-swap as accept() yields it, the primary turns sent into free before it
// gives it to another. Whoever comes second lets go.
//
// A worker is handed more only once it has taken all that it was handed. Batches shrink with the queue (guided
// self-scheduling, Polychronopoulos and Kuck 1987): many at a time under load, single ones when order matters.
#include <algorithm>
#include <deque>

#include "backends/bound_socket.hh"
#include "sys/error.hh"
#include "sys/process.hh"
#include "sys/socket.hh"
#include "wire/channel.hh"
#include "wire/handoff.hh"

namespace lb {
namespace {

constexpr uint64_t kUntakenMax_ns = 50'000'000;   // a worker that sits on a hand-off longer loses it to another
constexpr uint64_t kRetryPause_ns = 20'000'000;   // after running out of descriptors or memory
constexpr uint64_t kStallPauseMin_ns = 50'000'000;
constexpr uint64_t kStallPauseMax_ns = 1'000'000'000;

class RoundRobinBackend final : public EndpointBackend {
 public:
  RoundRobinBackend(Surroundings& around, const ListenRequest& request, BoundSocket socket)
      : around_(around), request_(request), socket_(std::move(socket)) {}
  ~RoundRobinBackend() override;

  Result<void> open() noexcept;

  Result<Grant> grant(Seat seat) noexcept override;
  Result<void> set_backlog(int backlog) noexcept override { return socket_.listen(backlog); }
  void ready(Seat seat) noexcept override;
  void draining(Seat seat) noexcept override;
  void left(Seat seat) noexcept override;
  void refuse_new() noexcept override;
  bool quiet(bool handshakes) noexcept override;
  void turn() noexcept override;
  bool may_sleep() noexcept override;
  int next_turn_ms() noexcept override;
  Result<Endpoint> address() const noexcept override { return socket_.address(); }
  void describe(EndpointStatus& status) const override;

 private:
  struct Waiting {
    UniqueFd fd;
    uint64_t since_ns = 0;
    bool again = false;  // another worker was to have it, and may still hold a copy
  };
  struct Handed {
    UniqueFd fd;  // our copy, until it is taken
    uint64_t since_ns = 0;
    Claim claim;
  };
  struct Peer {  // a worker on this endpoint
    Seat seat;
    UniqueFd channel;        // our end
    UniqueFd worker_end;     // a duplicate: lets us take unread packets back
    std::vector<Handed> handed;
    uint64_t handed_ns = 0;
    uint64_t picks = 0;
    uint64_t paused_until_ns = 0;  // it sat on hand-offs, refused them or cannot be sent to
    uint64_t stall_pause_ns = kStallPauseMin_ns;
    bool ready = false;
  };

  Peer* find(const Seat& seat) noexcept;
  void accepted(Result<UniqueFd> connection) noexcept;
  void accept_rest() noexcept;
  void accept_up_to_the_bound() noexcept;
  bool collect(Peer& peer) noexcept;
  void take_back(Peer& peer) noexcept;
  void put_back(Handed&& handed) noexcept;
  bool has_room(const Peer& peer, uint64_t now) const noexcept;
  Peer* pick(uint64_t now) noexcept;
  bool hand_off(Peer& peer, size_t batch, uint64_t now) noexcept;
  void dispatch() noexcept;
  void publish() noexcept;
  uint32_t load(const Peer& peer) const noexcept {
    return atomic(around_.scoreboard.page(peer.seat.slot).in_flight).load(std::memory_order_relaxed);
  }
  std::span<__u32> claims(const Peer& peer) noexcept { return around_.scoreboard.page(peer.seat.slot).claims; }

  Surroundings& around_;
  ListenRequest request_;
  BoundSocket socket_;
  EventLoop::Token accept_token_ = 0;
  std::deque<Waiting> queue_;
  std::vector<std::unique_ptr<Peer>> peers_;
  size_t cursor_ = 0;  // cyclic: the peer after the last one picked
  uint64_t lost_ = 0;
  uint64_t retry_ns_ = 0;  // when to accept again after EMFILE and its like; 0: it accepts
  bool full_ = false;      // paused since the queue is full
  bool refusing_ = false;
  uint32_t still_ours_ = UINT32_MAX;  // refusing: of those in the kernel's queue
};

RoundRobinBackend::~RoundRobinBackend() { around_.loop.cancel(accept_token_); }  // armed, it would keep the listener alive

Result<void> RoundRobinBackend::open() noexcept {
  auto token = around_.loop.accept(socket_.get(), [this](Result<UniqueFd> fd) { accepted(std::move(fd)); });
  if (!token) return token.error();
  accept_token_ = *token;
  return {};
}

RoundRobinBackend::Peer* RoundRobinBackend::find(const Seat& seat) noexcept {
  for (auto& peer : peers_)
    if (peer->seat == seat) return peer.get();
  return nullptr;
}

Result<Grant> RoundRobinBackend::grant(Seat seat) noexcept {
  auto ends = make_channel();
  if (!ends) return ends.error();
  auto peer = std::make_unique<Peer>();
  peer->seat = seat;
  peer->channel = std::move(ends->first);
  peer->worker_end = std::move(ends->second);
  peer->handed.reserve(kHandoffBatchMax);
  Grant grant{Arrival::handoff, {peer->worker_end.get()}, {}};
  peers_.push_back(std::move(peer));
  return grant;
}

void RoundRobinBackend::ready(Seat seat) noexcept {
  if (Peer* peer = find(seat)) peer->ready = true;
}

void RoundRobinBackend::draining(Seat seat) noexcept {
  if (Peer* peer = find(seat)) peer->ready = false;
}

void RoundRobinBackend::left(Seat seat) noexcept {
  Peer* peer = find(seat);
  if (peer == nullptr) return;
  collect(*peer);
  take_back(*peer);
  std::erase_if(peers_, [peer](const auto& each) { return each.get() == peer; });
  cursor_ = peers_.empty() ? 0 : cursor_ % peers_.size();
}

void RoundRobinBackend::accepted(Result<UniqueFd> connection) noexcept {
  if (connection) {
    queue_.push_back({std::move(*connection), now_ns(), false});
    if (queue_.size() >= around_.queue_max && !full_ && !refusing_) {  // the kernel's queue holds the rest
      full_ = true;
      around_.loop.pause(accept_token_);
    }
    return;
  }
  if (accept_verdict(connection.error().code) == AcceptVerdict::fatal) ++lost_;
  retry_ns_ = now_ns() + kRetryPause_ns;
}

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
    handed.fd.reset();    // our copy first: the word's end tells the worker that there is none
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
         atomic(around_.scoreboard.page(peer.seat.slot).cells[request_.cell].waiting).load() != 0;
}

RoundRobinBackend::Peer* RoundRobinBackend::pick(uint64_t now) noexcept {
  Peer* best = nullptr;
  const bool least_loaded = request_.policy.selector == Selector::least_loaded;
  for (size_t i = 0; i < peers_.size(); ++i) {
    const size_t index = (cursor_ + i) % peers_.size();
    Peer& peer = *peers_[index];
    if (!has_room(peer, now)) continue;
    if (best != nullptr && load(peer) >= load(*best)) continue;
    best = &peer;
    if (!least_loaded) break;
  }
  if (best != nullptr)
    cursor_ = (static_cast<size_t>(std::find_if(peers_.begin(), peers_.end(), [&](auto& p) { return p.get() == best; }) -
                                   peers_.begin()) + 1) % peers_.size();
  return best;
}

bool RoundRobinBackend::hand_off(Peer& peer, size_t batch, uint64_t now) noexcept {
  HandoffPacket packet;
  int fds[kHandoffBatchMax];
  while (packet.count < batch && !queue_.empty()) {
    auto claim = Claim::find_free(claims(peer));
    if (!claim) break;
    Waiting& first = queue_.front();
    fds[packet.count] = first.fd.get();
    packet.entry[packet.count++] = {claim->index(), claim->word(), first.again ? 1U : 0U};
    peer.handed.push_back({std::move(first.fd), first.since_ns, *claim});
    queue_.pop_front();
  }
  if (packet.count == 0) return false;
  auto sent = send_packet(peer.channel.get(), &packet, packet.size(), {fds, packet.count});
  if (!sent) {  // full, out of memory, or too many descriptors in flight (ETOOMANYREFS): it counts as full for a while
    take_back(peer);
    peer.paused_until_ns = now + kRetryPause_ns;
    return true;
  }
  peer.handed_ns = now;
  peer.picks += packet.count;
  return true;
}

void RoundRobinBackend::dispatch() noexcept {
  const uint64_t now = now_ns();
  while (!queue_.empty()) {
    Peer* peer = pick(now);
    if (peer == nullptr) break;
    const size_t share = queue_.size() / peers_.size();
    if (!hand_off(*peer, std::clamp<size_t>(share, 1, around_.window), now)) break;
  }
}

void RoundRobinBackend::publish() noexcept {
  atomic(around_.scoreboard.primary().work[request_.cell]).store(static_cast<uint32_t>(queue_.size()));
}

void RoundRobinBackend::turn() noexcept {
  const uint64_t now = now_ns();
  for (auto& peer : peers_) {
    if (peer->handed.empty()) continue;
    collect(*peer);
    if (peer->handed.empty() || now - peer->handed_ns < kUntakenMax_ns) continue;
    const bool others = std::any_of(peers_.begin(), peers_.end(), [&](auto& p) { return has_room(*p, now); });
    if (!others) continue;
    take_back(*peer);
    peer->paused_until_ns = now + peer->stall_pause_ns;
    peer->stall_pause_ns = std::min(peer->stall_pause_ns * 2, kStallPauseMax_ns);
  }
  dispatch();
  if (full_ && !refusing_) accept_up_to_the_bound();
  if (retry_ns_ != 0 && now >= retry_ns_ && !refusing_) {
    retry_ns_ = 0;
    around_.loop.resume(accept_token_);
  }
  publish();
}

/// The workers have been told to ring from now on: has one moved since we last looked?
bool RoundRobinBackend::may_sleep() noexcept {
  bool news = false;
  for (auto& peer : peers_)
    if (!peer->handed.empty()) news |= collect(*peer);
  if (news) return false;
  return queue_.empty() || std::none_of(peers_.begin(), peers_.end(), [&, now = now_ns()](auto& p) { return has_room(*p, now); });
}

int RoundRobinBackend::next_turn_ms() noexcept {
  uint64_t next = retry_ns_ != 0 ? retry_ns_ : UINT64_MAX;
  for (auto& peer : peers_) {
    if (!peer->handed.empty()) next = std::min(next, peer->handed_ns + kUntakenMax_ns);
    if (!queue_.empty() && peer->ready && peer->paused_until_ns != 0) next = std::min(next, peer->paused_until_ns);
  }
  if (next == UINT64_MAX) return -1;
  const uint64_t now = now_ns();
  return next <= now ? 10 : static_cast<int>((next - now) / 1'000'000) + 1;
}

void RoundRobinBackend::refuse_new() noexcept {
  refusing_ = true;
  // Those two are accepted from by hand from now on: a UNIX socket is readable for ever, and of an inherited one not all is ours.
  if (socket_.address().family() == AF_UNIX || socket_.inherited()) around_.loop.pause(accept_token_);
  socket_.refuse_new();
  still_ours_ = socket_.ours();
}

/// Accepts what the kernel still holds, then asks whether all of it has found a worker.
bool RoundRobinBackend::quiet(bool handshakes) noexcept {
  if (handshakes && socket_.handshaking()) return false;
  accept_rest();
  turn();
  return queue_.empty() && (still_ours_ == 0 || accept_queue_length(socket_.get()) == 0) &&
         std::all_of(peers_.begin(), peers_.end(), [](const auto& peer) { return peer->handed.empty(); });
}

/// A multishot accept takes all that the kernel's queue holds at once, so while that is more than we want, we take by hand.
void RoundRobinBackend::accept_up_to_the_bound() noexcept {
  while (queue_.size() < around_.queue_max) {
    auto connection = accept_from(socket_.get(), true);
    if (connection && *connection) {
      queue_.push_back({std::move(*connection), now_ns(), false});
      continue;
    }
    full_ = false;
    if (connection) return around_.loop.resume(accept_token_);
    return accepted(std::move(connection));
  }
}

void RoundRobinBackend::accept_rest() noexcept {
  around_.loop.pause(accept_token_);
  for (; still_ours_ != 0; still_ours_ -= socket_.inherited() ? 1 : 0) {
    auto connection = accept_from(socket_.get(), true);
    if (!connection || !*connection) return;
    accepted(std::move(connection));
  }
}

void RoundRobinBackend::describe(EndpointStatus& status) const {
  const bool least_loaded = request_.policy.selector == Selector::least_loaded;
  status.effective = {Backend::round_robin, least_loaded ? Selector::least_loaded : Selector::cyclic};
  status.rung = around_.loop.name();
  status.reason = around_.loop_reason;
  status.queued = static_cast<uint32_t>(queue_.size());
  status.queue_age_ms = queue_.empty() ? 0 : static_cast<uint32_t>((now_ns() - queue_.front().since_ns) / 1'000'000);
  status.lost = lost_;
  for (const auto& peer : peers_) {
    const auto& cell = around_.scoreboard.page(peer->seat.slot).cells[request_.cell];
    const auto untaken = static_cast<uint32_t>(std::count_if(peer->handed.begin(), peer->handed.end(), [](const Handed& handed) {
      return handed.claim.state() == LB_CLAIM_SENT;
    }));
    status.workers.push_back({peer->seat.worker, peer->seat.slot, atomic(cell.accepted).load(),
                              untaken, peer->picks});
  }
}

}  // namespace

Result<std::unique_ptr<EndpointBackend>> make_round_robin_backend(Surroundings& around, const ListenRequest& request) noexcept {
  if (around.strict && !around.loop_reason.empty()) return error_naming(EPERM, "LB_STRICT: round-robin without io_uring (" + around.loop_reason + ")");
  auto socket = BoundSocket::open(around, request);
  if (!socket) return socket.error();
  if (!socket->listens())
    if (auto listening = socket->listen(request.options.backlog); !listening) return listening.error();
  auto backend = std::make_unique<RoundRobinBackend>(around, request, std::move(*socket));
  if (auto opened = backend->open(); !opened) return opened.error();
  return std::unique_ptr<EndpointBackend>(std::move(backend));
}

}  // namespace lb
