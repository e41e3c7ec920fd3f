// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "backends/backend.hh"
#include "wire/listen_query.hh"

namespace lb {

/// The primary's endpoints: the first worker that asks for one makes its backend, later ones share it.
class Listeners {
 public:
  Listeners(Surroundings& around, Policy policy) noexcept : around_(around), policy_(policy) {}

  struct Answer {
    Grant grant;
    Endpoint address;
    uint32_t cell;
  };
  /// query_listener. Two workers that ask for the same (endpoint, v6only and index) share a backend, unless it is exclusive; the
  /// other options must be alike, but for the backlog, of which the latest holds. After an error nothing is remembered: another
  /// attempt may succeed.
  Result<Answer> query(Seat seat, const ListenQuery& asked) noexcept;

  /// False when the worker has no such endpoint: it breaks the protocol.
  bool listening(Seat seat, uint32_t cell) noexcept;
  /// The worker closed its listener; without any, the endpoint is given up.
  void close(Seat seat, uint32_t cell) noexcept;
  void draining(Seat seat) noexcept;
  /// The worker is gone; its endpoints wait for a replacement.
  void left(Seat seat) noexcept;

  void refuse_new() noexcept;
  bool quiet(bool handshakes) noexcept;
  void turn() noexcept;
  bool may_sleep() noexcept;
  int next_turn_ms() noexcept;

  bool empty() const noexcept { return entries_.empty(); }
  EndpointStatus describe(uint32_t cell) const;
  std::vector<EndpointStatus> describe() const;

 private:
  struct Entry {
    std::string key;
    ListenRequest request;
    std::unique_ptr<EndpointBackend> backend;
    std::vector<Seat> seats;
  };
  Result<Entry*> open(const ListenQuery& asked, std::string key);
  Result<std::unique_ptr<EndpointBackend>> make_backend(ListenRequest& request) noexcept;
  Result<uint32_t> free_cell() noexcept;
  Entry* find(uint32_t cell) noexcept;
  EndpointStatus describe(const Entry& entry) const;

  Surroundings& around_;
  Policy policy_;
  std::vector<std::unique_ptr<Entry>> entries_;
};

}  // namespace lb
