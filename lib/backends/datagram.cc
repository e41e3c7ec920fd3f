// SPDX-License-Identifier: MIT
// Datagrams under `shared`: one bound socket, from which every worker receives. And what a policy means for datagrams, which cannot
// be accepted by one process and handed to another.
#include "backends/datagram.hh"

#include <algorithm>

#include "sys/datagram.hh"
#include "sys/error.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

class SharedDatagrams final : public EndpointBackend {
 public:
  SharedDatagrams(Surroundings& around, const ListenRequest& request, UniqueFd socket, std::string why)
      : around_(around), request_(request), socket_(std::move(socket)), reason_(std::move(why)) {}

  Result<Grant> grant(Seat seat) noexcept override {
    seats_.push_back(seat);
    return Grant{Arrival::datagram_socket, {socket_.get()}, {}};
  }
  void ready(Seat) noexcept override {}
  void draining(Seat) noexcept override {}
  void left(Seat seat) noexcept override { std::erase(seats_, seat); }
  void refuse_new() noexcept override { (void)drop_new_datagrams(socket_.get()); }
  bool quiet(bool) noexcept override { return true; }  // what got in is in the queue

  Result<Endpoint> address() const noexcept override { return local_address(socket_.get()); }
  void identify(EndpointStatus& status) const override {
    status.effective = {Backend::shared, Selector::standard};
    status.rung = "one socket, exclusive wake-ups";
    status.reason = reason_;
  }
  void measure(EndpointStatus& status) const override {
    const ReceiveQueue queue = receive_queue(socket_.get());
    status.queued = queue.bytes;
    status.lost = queue.dropped;
    for (const Seat& seat : seats_) {
      const auto& cell = around_.scoreboard.page(seat.slot).cells[request_.cell];
      status.workers.push_back({seat.worker, seat.slot, atomic(cell.accepted).load(), 0, 0});
    }
  }

 private:
  Surroundings& around_;
  ListenRequest request_;
  UniqueFd socket_;
  std::string reason_;
  std::vector<Seat> seats_;
};

}  // namespace

Result<UniqueFd> bind_datagram_socket(const Endpoint& endpoint, const ListenRequest& request, bool reuse_port) noexcept {
  auto socket = bind_to(endpoint, {.v6only = request.options.v6only, .reuse_port = reuse_port});
  if (!socket) return socket;
  if (request.options.receive_buffer > 0)
    if (auto set = set_receive_buffer(socket->get(), static_cast<int>(request.options.receive_buffer)); !set) return set.error();
  if (is_wildcard(endpoint))
    if (auto told = tell_destinations(socket->get(), endpoint.family()); !told) return told.error();
  return socket;
}

Result<std::unique_ptr<EndpointBackend>> make_shared_datagrams(Surroundings& around, const ListenRequest& request,
                                                               std::string why) noexcept {
  auto socket = bind_datagram_socket(request.endpoint, request, false);
  if (!socket) return socket.error();
  return std::unique_ptr<EndpointBackend>(std::make_unique<SharedDatagrams>(around, request, std::move(*socket), std::move(why)));
}

Result<std::unique_ptr<EndpointBackend>> make_datagram_backend(Surroundings& around, const ListenRequest& request) noexcept {
  switch (request.policy.backend) {
    case Backend::shared:
      return make_shared_datagrams(around, request, "");
    case Backend::reuseport:
      return make_datagram_slots(around, request);
    case Backend::automatic:
      if (ebpf_selection_works(around.scoreboard)) return make_datagram_slots(around, request);
      return make_shared_datagrams(around, request, "");
    case Backend::round_robin:
      break;
  }
  if (around.strict)
    return error_naming(EOPNOTSUPP, "LB_STRICT: round-robin hands on connections, and " + request.endpoint.to_string() +
                                        " has none (allowed: shared, reuseport, auto)");
  return make_shared_datagrams(around, request, "round-robin hands on connections, and datagrams have none");
}

}  // namespace lb
