// SPDX-License-Identifier: MIT
// What an endpoint is while no worker serves it, where clients are then to be refused (Options::without_workers).
#include "backends/backend.hh"

namespace lb {
namespace {

class RefusingBackend final : public EndpointBackend {
 public:
  explicit RefusingBackend(const ListenRequest& request) : request_(request) {}

  Result<Grant> grant(Seat) noexcept override { return Error{ENOTCONN, "listen: the endpoint is closed"}; }
  void ready(Seat) noexcept override {}
  void draining(Seat) noexcept override {}
  void left(Seat) noexcept override {}
  void refuse_new() noexcept override {}
  bool quiet(bool) noexcept override { return true; }
  Result<Endpoint> address() const noexcept override { return request_.endpoint; }
  void identify(EndpointStatus& status) const override {
    status.effective = request_.policy;
    status.rung = "no worker: clients are refused";
  }

 private:
  ListenRequest request_;
};

}  // namespace

std::unique_ptr<EndpointBackend> make_refusing_backend(const ListenRequest& request) {
  return std::make_unique<RefusingBackend>(request);
}

}  // namespace lb
