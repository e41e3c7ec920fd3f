// SPDX-License-Identifier: MIT
// ListenOptions::exclusive: the worker has bound by itself, accepts by itself and turns clients away by itself when it drains (the
// whole story is in worker/own_acceptor). The primary knows of it for the status, and so that the worker counts as listening.
#include "backends/backend.hh"

namespace lb {
namespace {

class ExclusiveBackend final : public EndpointBackend {
 public:
  ExclusiveBackend(Surroundings& around, const ListenRequest& request) : around_(around), request_(request) {}

  Result<Grant> grant(Seat seat) noexcept override {
    seat_ = seat;
    return Grant{Arrival::own_socket, {}, {}};
  }
  void ready(Seat) noexcept override {}
  void draining(Seat) noexcept override {}
  void left(Seat) noexcept override {}
  void refuse_new() noexcept override {}
  bool quiet(bool) noexcept override { return true; }

  Result<Endpoint> address() const noexcept override { return request_.bound; }
  void identify(EndpointStatus& status) const override {
    status.effective = {Backend::shared, Selector::standard};
    status.rung = "exclusive to worker " + std::to_string(seat_.worker);
    status.reason = "the worker asked for it (ListenOptions::exclusive)";
  }
  void measure(EndpointStatus& status) const override {
    const auto& cell = around_.scoreboard.page(seat_.slot).cells[request_.cell];
    status.workers.push_back({seat_.worker, seat_.slot, atomic(cell.accepted).load(), 0, 0});
  }

 private:
  Surroundings& around_;
  ListenRequest request_;
  Seat seat_;
};

}  // namespace

Result<std::unique_ptr<EndpointBackend>> make_exclusive_backend(Surroundings& around, const ListenRequest& request) noexcept {
  return std::unique_ptr<EndpointBackend>(std::make_unique<ExclusiveBackend>(around, request));
}

}  // namespace lb
