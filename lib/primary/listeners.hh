// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <lb/cluster.hh>

#include "backends/heritage.hh"
#include "primary/policy_change.hh"
#include "wire/listen_query.hh"

namespace lb {

/// What the primary before this one has left for an endpoint.
struct Heirloom {
  ListenQuery query{};  ///< as its first worker asked for it
  std::string blob{};
  Heritage heritage{};
  UniqueFd port{};  ///< see Entry::port
  bool claimed = false;
  uint32_t cell = 0;  ///< claimed: the endpoint that has it
};
/// By the key of its endpoint; null: there is none, or it is claimed already.
using FindHeirloom = std::function<Heirloom*(const std::string& key)>;

/// What an endpoint has to leave: the same, on the other side.
struct Bequest {
  uint32_t cell = 0;
  ListenQuery query{};
  std::string_view blob{};
  Heritage heritage{};
  const UnixPath* path = nullptr;
  int port = -1;
};

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

  /// What a worker's word about a cell is about.
  enum class About {
    nothing,   ///< no such endpoint, or said before
    listener,  ///< the worker's listener on the endpoint
    source,    ///< one of the ways by which connections arrive there, as the policy changes
  };
  /// The worker listens. `nothing`: it breaks the protocol.
  About listening(Seat seat, uint32_t cell) noexcept;
  /// The worker closed its listener. Without any, the endpoint is given up, unless it `leaves`: then it waits for another.
  About close(Seat seat, uint32_t cell, bool leaves) noexcept;
  /// Whether the worker was given a way to get connections, even if it has not said yet that it listens.
  bool granted(Seat seat) const noexcept;
  void draining(Seat seat) noexcept;
  /// The worker's weight has changed.
  void weigh(Seat seat) noexcept;
  /// The worker is gone; its endpoints wait for a replacement, or refuse, as the options say.
  void left(Seat seat) noexcept;

  /// Changes the policy of one endpoint, or of all and of those to come; of all or none of those that are there. What cannot be had, as
  /// under `listen`, is the error. Endpoints that are changing already take their turn. Exclusive ones and datagrams stay as they are.
  Result<void> set_policy(const Policy& policy, const Endpoint* only) noexcept;
  /// A change has ended; `why_not` if the old policy stays in force.
  std::function<void(const EndpointStatus& endpoint, const char* why_not)> on_change;
  const Policy& policy() const noexcept { return policy_; }

  /// See EndpointBackend::reserve.
  Result<void> reserve() noexcept;
  /// Two workers that ask with the same key share an endpoint.
  static std::string key_of(const ListenQuery& asked);

  /// To a new primary (upgrade.cc). All but the exclusive endpoints, which are their worker's.
  Result<std::vector<Bequest>> bequests() noexcept;
  void lend() noexcept;
  void resume() noexcept;
  /// The others have those whose cells are in `whole`, some with all of a group's sockets; nobody new gets into the rest.
  void leave_to_others(const std::map<uint32_t, bool>& whole) noexcept;
  /// After that: what is left here has found a worker. `handshakes`: wait for those under way.
  bool left_nothing(bool handshakes) noexcept;
  bool changing() const noexcept;

  /// From an old primary (takeover.cc): an endpoint's first worker gets what is found, so that nothing need be bound.
  void inherit_by(FindHeirloom find) { find_heirloom_ = std::move(find); }
  bool serves(const Heirloom& heirloom) noexcept;
  bool has_group(const Heirloom& heirloom) noexcept;
  void own() noexcept;

  void refuse_new() noexcept;
  bool quiet(bool handshakes) noexcept;
  void turn() noexcept;
  EventLoop::Sleep may_sleep() noexcept;
  int next_turn_ms() noexcept;

  bool empty() const noexcept { return entries_.empty(); }
  /// Who it is: all but its queues, counts and loads, which take a system call for each worker.
  EndpointStatus identify(uint32_t cell) const;
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
    bool served = false;     // somebody has listened
    uint32_t index = 0;      // which of a worker's listeners on that endpoint
    bool to_others = false;  // who go on with it
    Policy requested{};
    std::optional<PolicyChange> change{};
    std::optional<Policy> next{};  // asked for while it was changing
    std::string not_changed{};     // why the last change came to nothing
    uint64_t lost_before = 0;      // under policies of before
  };
  /// A change as it is prepared: for all endpoints, before it is made for any.
  struct Prepared {
    Entry* entry;
    ListenRequest request;
    std::unique_ptr<EndpointBackend> backend;  // null: another selector of the same
  };
  static bool is_meant(const Entry& entry, const Endpoint* only) noexcept;
  Result<void> prepare(Entry& entry, const Policy& policy, std::vector<Prepared>& prepared) noexcept;
  void begin(Prepared& prepared) noexcept;
  void advance(Entry& entry) noexcept;
  bool joined_by_all(const Entry& entry) const noexcept;
  bool offer(Entry& entry, Seat seat, uint32_t known) noexcept;
  ForgottenCell* find_forgotten(uint32_t heir, Seat seat) noexcept;
  void part_late(const ForgottenCell& forgotten, Seat seat) noexcept;
  void offer_late() noexcept;
  void tell_to_part(Entry& entry) noexcept;
  void finish(Entry& entry) noexcept;
  void begin_next(Entry& entry) noexcept;
  void drop_change(Entry& entry) noexcept;
  About close_source(Entry& entry, Seat seat, bool leaves) noexcept;
  About close_listener(Entry& entry, Seat seat, bool leaves) noexcept;
  Result<Entry*> create(const ListenQuery& asked, std::string key);
  Result<void> inherit(Entry& entry, Heirloom& left) noexcept;
  Result<void> open(Entry& entry, Heritage* heritage = nullptr) noexcept;
  bool leave(Entry& entry, Seat seat) noexcept;
  Result<void> settle(ListenRequest& request) noexcept;
  Result<std::unique_ptr<EndpointBackend>> make_backend(const ListenRequest& request, Heritage* heritage = nullptr) noexcept;
  Result<uint32_t> free_cell(const std::vector<Prepared>* prepared = nullptr) noexcept;
  Entry* find(uint32_t cell) noexcept;
  EndpointStatus identify(const Entry& entry) const;
  EndpointStatus describe(const Entry& entry) const;
  static void describe_change(const Entry& entry, EndpointStatus& status);

  Surroundings& around_;
  Policy policy_;
  Options::WithoutWorkers without_workers_;
  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<ForgottenCell> forgotten_;
  FindHeirloom find_heirloom_;
  std::map<std::string, std::string> blobs_;  // set by the primary: by endpoint
};

}  // namespace lb
