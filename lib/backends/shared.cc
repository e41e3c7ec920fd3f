// SPDX-License-Identifier: MIT
// The shared backend: the primary binds one socket, every worker listens on a duplicate of it and pulls when idle.
// A central queue in the kernel, so it can be the ideal M/G/k; the workers' side is in worker/shared_acceptor.
#include <algorithm>

#include "backends/bound_socket.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

class SharedBackend final : public EndpointBackend {
 public:
  SharedBackend(Surroundings& around, const ListenRequest& request, BoundSocket socket)
      : around_(around), request_(request), socket_(std::move(socket)) {}

  Result<Grant> grant(Seat seat) noexcept override {
    seats_.push_back(seat);
    const uint32_t listens = socket_.listens() ? uint32_t{kSharedListens} : 0;
    const uint32_t kept = socket_.inherited() ? uint32_t{kSharedKept} : 0;
    return Grant{Arrival::shared_socket, {socket_.get()}, {listens | kept, 0, 0}};
  }
  /// A socket that nobody listens on yet gets its backlog from the worker, which does.
  Result<void> set_backlog(int backlog) noexcept override {
    if (!socket_.listens()) return {};
    return socket_.listen(backlog);
  }
  void ready(Seat) noexcept override { listening_ = true; }
  /// A UNIX socket that refuses newcomers is readable for ever: not before the workers are told to leave.
  void draining(Seat) noexcept override {
    if (std::exchange(refuse_as_they_drain_, false)) socket_.refuse_new();
  }
  void left(Seat seat) noexcept override { std::erase(seats_, seat); }

  void refuse_new() noexcept override {
    refuse_as_they_drain_ = socket_.address().family() == AF_UNIX;
    if (listening_ && !refuse_as_they_drain_) socket_.refuse_new();
  }
  bool quiet(bool handshakes) noexcept override { return !listening_ || !handshakes || !socket_.handshaking(); }

  Result<Endpoint> address() const noexcept override { return socket_.address(); }
  void describe(EndpointStatus& status) const override {
    status.effective = {Backend::shared, Selector::standard};
    status.rung = "one socket, exclusive wake-ups";
    status.queued = accept_queue_length(socket_.get());
    for (const Seat& seat : seats_) {
      const auto& cell = around_.scoreboard.page(seat.slot).cells[request_.cell];
      status.workers.push_back({seat.worker, seat.slot, atomic(cell.accepted).load(), 0, 0});
    }
  }

 private:
  Surroundings& around_;
  ListenRequest request_;
  BoundSocket socket_;
  std::vector<Seat> seats_;
  bool listening_ = false;
  bool refuse_as_they_drain_ = false;
};

}  // namespace

Result<std::unique_ptr<EndpointBackend>> make_shared_backend(Surroundings& around, const ListenRequest& request) noexcept {
  auto socket = BoundSocket::open(around, request);
  if (!socket) return socket.error();
  return std::unique_ptr<EndpointBackend>(std::make_unique<SharedBackend>(around, request, std::move(*socket)));
}

}  // namespace lb
