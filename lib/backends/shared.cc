// SPDX-License-Identifier: MIT
// The shared backend: the primary binds one socket, every worker listens on a duplicate of it and pulls when idle.
// A central queue in the kernel, so it can be the ideal M/G/k; the workers' side is in worker/shared_acceptor.
#include <algorithm>

#include "backends/backend.hh"
#include "sys/half_open.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

class SharedBackend final : public EndpointBackend {
 public:
  SharedBackend(Surroundings& around, const ListenRequest& request, UniqueFd socket)
      : around_(around), request_(request), socket_(std::move(socket)) {}

  Result<Grant> grant(Seat seat) noexcept override {
    seats_.push_back(seat);
    return Grant{Arrival::shared_socket, {socket_.get()}, {}};
  }
  void ready(Seat) noexcept override { listening_ = true; }
  void draining(Seat) noexcept override {}
  void left(Seat seat) noexcept override { std::erase(seats_, seat); }

  void refuse_new() noexcept override {
    if (listening_) (void)drop_new_clients(socket_.get());
  }
  bool quiet(bool handshakes) noexcept override {
    if (!listening_ || !handshakes) return true;
    const auto bound = address();
    if (!bound) return true;
    const auto half_open = count_half_open(bound->address()->sa_family, bound->port());
    return !half_open || *half_open == 0;
  }

  Result<Endpoint> address() const noexcept override { return local_address(socket_.get()); }
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
  UniqueFd socket_;
  std::vector<Seat> seats_;
  bool listening_ = false;
};

}  // namespace

Result<std::unique_ptr<EndpointBackend>> make_shared_backend(Surroundings& around, const ListenRequest& request) noexcept {
  auto socket = bind_to(request.endpoint, {.v6only = request.v6only});
  if (!socket) return socket.error();
  return std::unique_ptr<EndpointBackend>(std::make_unique<SharedBackend>(around, request, std::move(*socket)));
}

}  // namespace lb
