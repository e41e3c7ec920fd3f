// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <lb/cluster.hh>

#include "backends/backend.hh"
#include "wire/listen_query.hh"

namespace lb {

/// The primary's endpoints: the first worker that asks for one makes its backend, later ones share it.
class Listeners {
 public:
  Listeners(Surroundings& around, Policy policy, Options::WithoutWorkers without_workers) noexcept
      : around_(around), policy_(policy), without_workers_(without_workers) {}

  struct Answer {
    Grant grant;
    Endpoint address;
    uint32_t cell;
  };
  /// query_listener. Two workers that ask for the same (endpoint, v6only and index) share a backend, unless it is exclusive; the
  /// other options must be alike, but for the backlog, of which the latest holds. After an error nothing is remembered: another
  /// attempt may succeed.
  Result<Answer> query(Seat seat, const ListenQuery& asked) noexcept;

  /// The blob of an endpoint: what it has, else what is offered, which it then has.
  const std::string& settle_blob(uint32_t cell, std::string_view offered) noexcept;
  /// For this endpoint, whoever asks for it, now and later.
  Result<void> set_blob(const Endpoint& endpoint, std::string_view blob) noexcept;

  /// False when the worker has no such endpoint, or listens there already: it breaks the protocol.
  bool listening(Seat seat, uint32_t cell) noexcept;
  /// The worker closed its listener; without any, the endpoint is given up. False when it has no such endpoint.
  bool close(Seat seat, uint32_t cell) noexcept;
  void draining(Seat seat) noexcept;
  /// The worker is gone; its endpoints wait for a replacement, or refuse, as the options say.
  void left(Seat seat) noexcept;
  /// The same for one endpoint. False when the worker has no such endpoint.
  bool left(Seat seat, uint32_t cell) noexcept;

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
    std::vector<Seat> listening{};  // those of the seats that have said so
    std::string blob{};
    Endpoint asked{};
    UniqueFd port{};  // refusing without workers: bound and never listening, it keeps the port
    bool refusing = false;
  };
  Result<Entry*> create(const ListenQuery& asked, std::string key);
  Result<void> open(Entry& entry) noexcept;
  bool leave(Entry& entry, Seat seat) noexcept;
  Result<std::unique_ptr<EndpointBackend>> make_backend(ListenRequest& request) noexcept;
  Result<uint32_t> free_cell() noexcept;
  Entry* find(uint32_t cell) noexcept;
  EndpointStatus describe(const Entry& entry) const;

  Surroundings& around_;
  Policy policy_;
  Options::WithoutWorkers without_workers_;
  std::vector<std::unique_ptr<Entry>> entries_;
  std::map<std::string, std::string> blobs_;  // set by the primary: by endpoint
};

}  // namespace lb
