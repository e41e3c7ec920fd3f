// SPDX-License-Identifier: MIT
// The shared backend: the primary binds one socket, every worker listens on a duplicate of it and pulls when idle.
// A central queue in the kernel, so it can be the ideal M/G/k; the workers' side is in worker/shared_acceptor.
//
// The kernel wakes one worker for a connection, and if that one hangs or can take none, nobody. So the first connection after a
// pause wakes the primary too, which looks a little later, and until the queue is empty, whether somebody takes them.
#include <algorithm>

#include "backends/heritage.hh"
#include "sys/process.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

constexpr uint64_t kLook_ns = 50'000'000;   // a queue that nobody took from for so long is somebody else's to empty
constexpr uint64_t kRetry_ns = 20'000'000;  // until a worker that ran out of descriptors may try again

class SharedBackend final : public EndpointBackend {
 public:
  SharedBackend(Surroundings& around, const ListenRequest& request, BoundSocket socket)
      : around_(around), request_(request), socket_(std::move(socket)) {}

  ~SharedBackend() override { around_.loop.cancel(came_); }

  Result<Grant> grant(Seat seat) noexcept override {
    members_.push_back({seat});
    const uint32_t listens = socket_.listens() ? uint32_t{kSharedListens} : 0;
    const uint32_t kept = socket_.inherited() ? uint32_t{kSharedKept} : 0;
    return Grant{Arrival::shared_socket, {socket_.get()}, {listens | kept, 0, 0}};
  }
  /// A socket that nobody listens on yet gets its backlog from the worker, which does.
  Result<void> set_backlog(int backlog) noexcept override {
    if (!socket_.listens()) return {};
    return socket_.listen(backlog);
  }
  void ready(Seat) noexcept override {
    if (!std::exchange(listening_, true)) watch();
  }
  /// A UNIX socket that refuses newcomers is readable for ever: not before the workers are told to leave.
  void draining(Seat) noexcept override {
    if (std::exchange(refuse_as_they_drain_, false)) socket_.refuse_new();
  }
  void left(Seat seat) noexcept override {
    std::erase_if(members_, [&](const Member& member) { return member.seat == seat; });
  }

  void refuse_new() noexcept override {
    refuse_as_they_drain_ = socket_.address().family() == AF_UNIX;
    if (refuse_as_they_drain_) {  // readable for ever
      around_.loop.cancel(came_);
      look_ns_ = 0;
    }
    if (listening_ && !refuse_as_they_drain_) socket_.refuse_new();
  }
  bool quiet(bool handshakes) noexcept override { return !listening_ || !handshakes || !socket_.handshaking(); }

  void turn() noexcept override {
    const uint64_t now = now_ns();
    for (Member& member : members_)
      if (member.retry_ns != 0 || cannot_take(member) != 0) look_after(member, now);
    if (look_ns_ != 0 && now >= look_ns_) look(now);
  }
  EventLoop::Sleep may_sleep() noexcept override {
    const bool news = std::any_of(members_.begin(), members_.end(), [&](const Member& member) {
      const uint32_t word = cannot_take(member);
      return word != 0 && word != member.out;
    });
    return news ? EventLoop::Sleep::no : EventLoop::Sleep::yes;
  }
  int next_turn_ms() noexcept override {
    uint64_t next = look_ns_ != 0 ? look_ns_ : UINT64_MAX;
    for (const Member& member : members_)
      if (member.retry_ns != 0) next = std::min(next, member.retry_ns);
    return ms_until(next);
  }

  /// The queue is another backend's to look after.
  void retire(bool) noexcept override {
    around_.loop.cancel(std::exchange(came_, 0));
    look_ns_ = 0;
  }
  bool lives_on(Seat) const noexcept override { return true; }
  UnixPath* path() noexcept override { return socket_.path(); }
  Result<Heritage> bequeath() noexcept override {
    auto socket = socket_.duplicate();
    if (!socket) return socket.error();
    return Heritage{std::move(*socket)};
  }

  Result<Endpoint> address() const noexcept override { return socket_.address(); }
  void identify(EndpointStatus& status) const override {
    status.effective = {Backend::shared, Selector::standard};
    status.rung = "one socket, exclusive wake-ups";
  }
  void measure(EndpointStatus& status) const override {
    status.queued = accept_queue_length(socket_.get());
    for (const Member& member : members_)
      status.workers.push_back({member.seat.worker, member.seat.slot, atomic(cell_of(member).accepted).load(), 0, 0});
  }

 private:
  struct Member {
    Seat seat;
    uint32_t out = 0;                 // its word that it can take none, as we know it
    uint64_t retry_ns = 0;            // when it may try again
    uint64_t nudged_at = UINT64_MAX;  // its heartbeat when it was last nudged
  };

  const lb_endpoint_cell& cell_of(const Member& member) const noexcept {
    return around_.scoreboard.page(member.seat.slot).cells[request_.cell];
  }
  uint32_t cannot_take(const Member& member) const noexcept { return atomic(cell_of(member).waiting).load(); }
  uint64_t taken() const noexcept {
    uint64_t sum = 0;
    for (const Member& member : members_) sum += atomic(cell_of(member).accepted).load(std::memory_order_relaxed);
    return sum;
  }

  /// Or goes on to. Where the loop has no room for one more to be watched, the queue is looked at all the time.
  void watch() noexcept {
    const bool watched = came_ != 0 ? around_.loop.resume(came_).ok() : begin_to_watch().ok();
    look_ns_ = watched ? 0 : now_ns() + kLook_ns;
  }
  Result<void> begin_to_watch() noexcept {
    auto token = around_.loop.watch(socket_.get(), [this] {
      around_.loop.pause(came_);
      seen_ = taken();
      look_ns_ = now_ns() + kLook_ns;
    });
    if (!token) return token.error();
    came_ = *token;
    return {};
  }

  void look(uint64_t now) noexcept {
    if (members_.empty() || accept_queue_length(socket_.get()) == 0) return watch();
    look_ns_ = now + kLook_ns;
    if (std::exchange(seen_, taken()) != seen_) return;
    for (Member& member : members_)
      if (member.out == 0) nudge(member);
  }

  /// It has run out of descriptors (again): another comes in its stead, and it may try again later.
  void look_after(Member& member, uint64_t now) noexcept {
    const uint32_t word = cannot_take(member);
    const bool news = word != 0 && word != member.out;
    if (!news && now < member.retry_ns) return;
    if (!news && word != 0) nudge(member);
    member.out = word;
    member.retry_ns = word != 0 ? now + kRetry_ns : 0;
    if (!news || accept_queue_length(socket_.get()) == 0) return;
    Member* idlest = nullptr;
    for (Member& other : members_)
      if (cannot_take(other) == 0 && (idlest == nullptr || load(other) < load(*idlest))) idlest = &other;
    if (idlest != nullptr) nudge(*idlest);
  }
  uint32_t load(const Member& member) const noexcept { return in_flight_of(around_.scoreboard.page(member.seat.slot)); }

  /// Not twice before it has come to it: one that hangs need not find its channel full.
  void nudge(Member& member) noexcept {
    const uint64_t heartbeat = atomic(around_.scoreboard.page(member.seat.slot).heartbeat).load(std::memory_order_relaxed);
    if (heartbeat == member.nudged_at) return;
    Message message;
    message.act = Act::nudge;
    message.endpoint = request_.cell;
    if (around_.tell(member.seat.worker, message, {})) member.nudged_at = heartbeat;
  }

  Surroundings& around_;
  ListenRequest request_;
  BoundSocket socket_;
  std::vector<Member> members_;
  EventLoop::Token came_ = 0;  // watches for the first connection after a pause
  uint64_t look_ns_ = 0;       // when to look at the queue; 0: when one comes
  uint64_t seen_ = 0;          // connections taken, as of the last look
  bool listening_ = false;
  bool refuse_as_they_drain_ = false;
};

}  // namespace

Result<std::unique_ptr<EndpointBackend>> make_shared_backend(Surroundings& around, const ListenRequest& request,
                                                             Heritage* heritage) noexcept {
  auto socket = heritage != nullptr ? Result<BoundSocket>(std::move(heritage->socket)) : BoundSocket::open(around, request);
  if (!socket) return socket.error();
  return std::unique_ptr<EndpointBackend>(std::make_unique<SharedBackend>(around, request, std::move(*socket)));
}

}  // namespace lb
