// SPDX-License-Identifier: MIT
// The round-robin backend: the primary accepts, holds the one queue, and hands connections to workers that have room.
// The hand-offs themselves are in round_robin_handoff, the workers' side is in worker/handoff_acceptor.
//
// Exactly once: the primary keeps its copy of a descriptor until the hand-off's claim word says who has the connection. The
// worker turns sent into taken (or refused) by compare-and-swap as accept() yields it, the primary turns sent into free before it
// gives it to another. Whoever comes second lets go.
//
// Idle workers come first. When there is none, busy ones are handed one ahead of time, so that they need not wait for the primary
// when they are done; who becomes idle first gets the oldest of these, recalled by its claim word. Batches shrink with the queue (guided
// self-scheduling, Polychronopoulos and Kuck 1987): many at a time under load, single ones when order matters.
//
// What a switch to the primary costs is most of what a hand-off costs. So a worker rings only when there is something to be given
// to it, and while connections arrive faster than one a turn the primary naps for 0.1 ms and meets several.
#include "backends/round_robin.hh"

#include <algorithm>

#include "sys/error.hh"
#include "sys/process.hh"
#include "sys/socket.hh"
#include "wire/channel.hh"

namespace lb {
namespace {

constexpr uint64_t kUntakenMax_ns = 50'000'000;  // a worker that sits on a hand-off longer loses it to another
constexpr uint64_t kStallPauseMax_ns = 1'000'000'000;

}  // namespace

RoundRobinBackend::~RoundRobinBackend() { around_.loop.cancel(accept_token_); }  // armed, it would keep the listener alive

Result<void> RoundRobinBackend::open() noexcept {
  auto token = around_.loop.accept(socket_.get(), [this](Result<UniqueFd> fd) { accepted(std::move(fd)); });
  if (!token) return token.error();
  accept_token_ = *token;
  return {};
}

/// Or begins to. A loop that has no room for one more to be watched is asked again.
void RoundRobinBackend::go_on_accepting() noexcept {
  if (accept_token_ == 0 ? open().ok() : around_.loop.resume(accept_token_).ok()) return;
  ++retried_;
  retry_ns_ = now_ns() + kRetryPause_ns;
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
  candidates_.reserve(peers_.size() + 1);
  choices_.reserve(peers_.size() + 1);
  Grant grant{Arrival::handoff, {peer->worker_end.get()}, {}};
  peers_.push_back(std::move(peer));
  return grant;
}

void RoundRobinBackend::ready(Seat seat) noexcept {
  if (Peer* peer = find(seat)) peer->ready = true;
  if (accept_token_ == 0 && !refusing_ && !lent_)
    go_on_accepting();  // with an inherited socket, not before there is somebody to hand on to
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
    ++arrivals_;
    queue_.push_back({std::move(*connection), now_ns(), false});
    if (queue_.size() >= around_.queue_max && !full_ && !refusing_ && !retired_) {  // the kernel's queue holds the rest
      full_ = true;
      around_.loop.pause(accept_token_);
    }
    return;
  }
  ++(accept_verdict(connection.error().code) == AcceptVerdict::fatal ? lost_ : retried_);
  retry_ns_ = now_ns() + kRetryPause_ns;
}

/// What an idle worker could be given.
void RoundRobinBackend::publish() noexcept {
  size_t work = queue_.size();
  for (const auto& peer : peers_) work += has_ahead(*peer) ? peer->handed.size() : 0;
  atomic(around_.scoreboard.primary().work[request_.cell]).store(static_cast<uint32_t>(work));
}

void RoundRobinBackend::turn() noexcept {
  const uint64_t now = now_ns();
  for (auto& peer : peers_) {
    if (peer->handed.empty()) continue;
    collect(*peer);
    if (peer->handed.empty() || now - peer->handed_ns < kUntakenMax_ns) continue;
    if (!custom() && waiting(*peer).load() == LB_WAITING_BLOCKED) continue;  // at its request: recall, not a stall
    const bool others = std::any_of(peers_.begin(), peers_.end(), [&](auto& p) { return p != peer && has_room(*p, now, share()); });
    if (!others) continue;
    take_back(*peer);
    peer->stalled_at = heartbeat(*peer);
    peer->paused_until_ns = now + peer->stall_pause_ns;
    peer->stall_pause_ns = std::min(peer->stall_pause_ns * 2, kStallPauseMax_ns);
  }
  recall(now);
  dispatch();
  if (full_ && !refusing_ && !retired_) accept_up_to_the_bound();
  if (retry_ns_ != 0 && now >= retry_ns_ && !refusing_ && !retired_) {
    retry_ns_ = 0;
    go_on_accepting();
  }
  publish();
}

/// The workers have been told to ring from now on: has one moved since we last looked?
EventLoop::Sleep RoundRobinBackend::may_sleep() noexcept {
  using Sleep = EventLoop::Sleep;
  bool news = false;
  for (auto& peer : peers_)
    if (!peer->handed.empty()) news |= collect(*peer);
  if (news) return Sleep::no;
  const bool dense = std::exchange(arrivals_, 0) > 1;
  const bool ahead = std::any_of(peers_.begin(), peers_.end(), [this](const auto& p) { return has_ahead(*p); });
  if (queue_.empty() && !ahead) return dense ? Sleep::briefly : Sleep::yes;
  publish();  // before we look: who becomes idle from now on rings
  if (ahead && !custom() && count_idle(now_ns()) != 0) return Sleep::no;
  if (around_.max_in_flight != 0)
    for (auto& peer : peers_) ask_for_a_ring(*peer);
  // Those that had room when the selector was asked, and let the connections wait, are to be left alone for now.
  const bool asked = custom() && queue_.size() <= left_waiting_;
  const bool room = std::any_of(peers_.begin(), peers_.end(), [&, now = now_ns(), each = share()](auto& p) {
    return !(asked && p->had_room) && has_room(*p, now, each);
  });
  return room && !queue_.empty() ? Sleep::no : dense ? Sleep::briefly : Sleep::yes;
}

int RoundRobinBackend::next_turn_ms() noexcept {
  uint64_t next = retry_ns_ != 0 ? retry_ns_ : UINT64_MAX;
  if (ask_again_ns_ != 0) next = std::min(next, ask_again_ns_);
  const uint64_t now = now_ns();
  for (auto& peer : peers_) {
    // Soon, for our copy of what it has taken meanwhile; then ever more seldom.
    if (!peer->handed.empty())
      next = std::min({next, peer->handed_ns + kUntakenMax_ns, now + std::max<uint64_t>(now - peer->handed_ns, 1'000'000)});
    if (!queue_.empty() && peer->ready && waiting(*peer).load() == LB_WAITING_IN_LOOP)
      next = std::min(next, std::max(peer->handed_ns + kInLoopMax_ns, now + 1'000'000));
    if (!queue_.empty() && peer->ready && peer->paused_until_ns != 0) next = std::min(next, peer->paused_until_ns);
  }
  if (next == UINT64_MAX) return -1;
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
    if (connection) return go_on_accepting();
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

Result<Heritage> RoundRobinBackend::bequeath() noexcept {
  auto socket = socket_.duplicate();
  if (!socket) return socket.error();
  return Heritage{std::move(*socket)};
}

/// A client may have woken our accept just before it was taken back from the kernel, and nobody else: so what waits now is ours.
void RoundRobinBackend::retire(bool) noexcept {
  retired_ = true;
  retry_ns_ = 0;
  around_.loop.pause(accept_token_);
  for (uint32_t i = 0; i < around_.queue_max; ++i) {
    auto connection = accept_from(socket_.get(), true);
    if (!connection || !*connection) return;
    accepted(std::move(connection));
  }
}

void RoundRobinBackend::own() noexcept {
  if (!std::exchange(lent_, false) || refusing_) return;
  if (std::any_of(peers_.begin(), peers_.end(), [](const auto& peer) { return peer->ready; })) go_on_accepting();
}

bool RoundRobinBackend::emptied() noexcept {
  for (auto& peer : peers_) collect(*peer);
  return queue_.empty() && std::all_of(peers_.begin(), peers_.end(), [](const auto& peer) { return peer->handed.empty(); });
}

void RoundRobinBackend::identify(EndpointStatus& status) const {
  const Selector selector = request_.policy.selector;
  status.effective = {Backend::round_robin, selector == Selector::standard ? Selector::cyclic : selector};
  status.rung = around_.loop.name();
  status.reason = around_.loop_reason;
}

void RoundRobinBackend::measure(EndpointStatus& status) const {
  status.queued = static_cast<uint32_t>(queue_.size());
  status.queue_age_ms = queue_.empty() ? 0 : static_cast<uint32_t>((now_ns() - queue_.front().since_ns) / 1'000'000);
  status.lost = lost_;
  status.retried = retried_;
  status.bad_picks = bad_picks_;
  for (const auto& peer : peers_) {
    const auto& cell = around_.scoreboard.page(peer->seat.slot).cells[request_.cell];
    const auto untaken = static_cast<uint32_t>(std::count_if(
        peer->handed.begin(), peer->handed.end(), [](const Handed& handed) { return handed.claim.state() == LB_CLAIM_SENT; }));
    status.workers.push_back({peer->seat.worker, peer->seat.slot, atomic(cell.accepted).load(), untaken, peer->picks,
                              peer->stalled_at == heartbeat(*peer)});
  }
}

Result<std::unique_ptr<EndpointBackend>> make_round_robin_backend(Surroundings& around, const ListenRequest& request,
                                                                  Heritage* heritage) noexcept {
  if (around.strict && !around.loop_reason.empty())
    return error_naming(EPERM, "LB_STRICT: round-robin without io_uring (" + around.loop_reason + ")");
  auto socket = heritage != nullptr ? Result<BoundSocket>(std::move(heritage->socket)) : BoundSocket::open(around, request);
  if (!socket) return socket.error();
  if (!socket->listens())
    if (auto listening = socket->listen(request.options.backlog); !listening) return listening.error();
  const bool lent = heritage != nullptr && heritage->lent;
  auto backend = std::make_unique<RoundRobinBackend>(around, request, std::move(*socket), lent);
  if (heritage == nullptr)
    if (auto opened = backend->open(); !opened) return opened.error();
  return std::unique_ptr<EndpointBackend>(std::move(backend));
}

}  // namespace lb
