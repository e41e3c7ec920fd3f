// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include <lb/cluster.hh>
#include <lb/endpoint.hh>
#include <lb/listen_options.hh>
#include <lb/policy.hh>
#include <lb/result.hh>
#include <lb/selector.hh>
#include <lb/status.hh>

#include "sys/event_loop.hh"
#include "sys/inherited.hh"
#include "sys/unix_path.hh"
#include "wire/message.hh"
#include "wire/scoreboard.hh"

namespace lb {

/// A worker as a backend sees it.
struct Seat {
  uint32_t worker = 0;  ///< worker id
  uint32_t slot = 0;

  bool operator==(const Seat&) const = default;
};

/// What a worker is given to listen on an endpoint. The descriptors stay the backend's.
struct Grant {
  Arrival arrival{};
  std::vector<int> fds;
  uint32_t value[3] = {};  ///< what the worker's acceptor needs to know beside
};

/// What the primary lends to its backends.
struct Surroundings {
  EventLoop& loop;
  const std::string& loop_reason;  ///< why the loop is not io_uring; empty if it is
  Scoreboard& scoreboard;
  int doorbell;  ///< by which workers wake the primary
  unsigned window;
  unsigned queue_max;
  uint32_t max_in_flight;            ///< of one worker; 0: no limit
  const SelectorFunction* selector;  ///< the program's own rule; null: it has none
  bool stealing;                     ///< Options::stealing
  bool strict;                       ///< a fallback is an error
  /// Sends a control message to a worker; EAGAIN when it does not read what it has: try again in a later turn.
  std::function<Result<void>(uint32_t worker, Message& message, std::span<const int> fds)> tell;
  const InheritedSockets& inherited;
  /// Something happened to an endpoint that the program should hear of.
  std::function<void(uint32_t cell, Event::Kind kind)> report;
};

/// What a worker asked for.
struct ListenRequest {
  Endpoint endpoint;
  ListenOptions options;
  uint32_t cell = 0;       ///< index of the endpoint's cell on the workers' pages
  Policy policy;           ///< as requested
  std::string fallback{};  ///< why it is not, if the endpoint's kind rules it out (backends/kinds)
  Endpoint bound{};        ///< exclusive: what the worker has bound by itself
};

struct Heritage;

/// The seam: how the connections of one endpoint reach the workers. The primary has one for each endpoint.
class EndpointBackend {
 public:
  virtual ~EndpointBackend() = default;

  virtual Result<Grant> grant(Seat seat) noexcept = 0;
  /// A later worker asked for another backlog.
  virtual Result<void> set_backlog(int /*backlog*/) noexcept { return {}; }
  /// The primary is about to give up its privileges: takes what later workers will need them for.
  virtual Result<void> reserve() noexcept { return {}; }
  /// The worker listens: connections may go to it.
  virtual void ready(Seat seat) noexcept = 0;
  /// The worker is to finish: no new connection goes to it.
  virtual void draining(Seat seat) noexcept = 0;
  /// The worker has closed its listener or is gone: what waits for it alone goes to others.
  virtual void left(Seat seat) noexcept = 0;

  /// Scoreboard::weight of the worker's slot has changed; until it is ready nobody needs to know.
  virtual void weigh(Seat /*seat*/) noexcept {}

  /// The worker has let go of another way to this endpoint, and what it took by that counts in this one's cell.
  virtual void recount(Seat /*seat*/) noexcept {}

  /// The cluster shuts down: turn new clients away.
  virtual void refuse_new() noexcept = 0;
  /// After refuse_new: every client that got in has reached a queue that workers empty. `handshakes`: wait for those under way.
  virtual bool quiet(bool handshakes) noexcept = 0;

  /// The endpoint's listening sockets, for another backend to be opened with: a change of policy, or of primary. This one goes on
  /// serving meanwhile, and for good if nothing comes of it (`resume`). EOPNOTSUPP: they are not to be had.
  virtual Result<Heritage> bequeath() noexcept;
  virtual void resume() noexcept {}
  /// The other is in another process, and about to take what it needs: a socket can be in one program's group only.
  virtual void lend() noexcept {}
  /// What was lent to this one is its own, for good.
  virtual void own() noexcept {}
  /// Of a UNIX socket, else null.
  virtual UnixPath* path() noexcept { return nullptr; }
  /// The other backend has taken over. `whole`: it has all the sockets, not the one alone. What got in here is still to be served by
  /// the workers here; nobody else is to get in.
  virtual void retire(bool /*whole*/) noexcept {}
  /// After retire: nothing is left here, and nothing more comes.
  virtual bool emptied() noexcept { return true; }
  /// After that: does the queue that this worker empties live on, as one of the other backend's? Then it need not find it empty.
  virtual bool lives_on(Seat /*seat*/) const noexcept { return false; }
  /// Before an emptied one is destroyed, in the primary itself: what sockets it alone has are shut down, for others may hold them.
  virtual void finish() noexcept {}
  /// May another selector of the same backend be taken into use as it is? Else that takes another backend.
  virtual bool may_select(Selector /*selector*/) const noexcept { return true; }
  virtual void select(Selector /*selector*/) noexcept {}

  /// At the end of each turn of the loop.
  virtual void turn() noexcept {}
  /// Before the loop sleeps; no: there is work, turn again.
  virtual EventLoop::Sleep may_sleep() noexcept { return EventLoop::Sleep::yes; }
  /// When `turn` wants to be called next, in ms; negative: when something happens.
  virtual int next_turn_ms() noexcept { return -1; }

  virtual Result<Endpoint> address() const noexcept = 0;
  /// Fills in what it is: effective policy, rung, reason.
  virtual void identify(EndpointStatus& status) const = 0;
  /// And how it does: queues, counts and the workers' loads.
  virtual void measure(EndpointStatus& /*status*/) const {}
  void describe(EndpointStatus& status) const {
    identify(status);
    measure(status);
  }
};

/// With a heritage they are opened with its sockets, instead of binding any.
Result<std::unique_ptr<EndpointBackend>> make_shared_backend(Surroundings& around, const ListenRequest& request,
                                                             Heritage* heritage = nullptr) noexcept;
Result<std::unique_ptr<EndpointBackend>> make_reuseport_backend(Surroundings& around, const ListenRequest& request,
                                                                Heritage* heritage = nullptr) noexcept;
Result<std::unique_ptr<EndpointBackend>> make_round_robin_backend(Surroundings& around, const ListenRequest& request,
                                                                  Heritage* heritage = nullptr) noexcept;
/// Stands for a backend while there is no worker and clients are to be refused: it has no socket.
std::unique_ptr<EndpointBackend> make_refusing_backend(const ListenRequest& request);
Result<std::unique_ptr<EndpointBackend>> make_exclusive_backend(Surroundings& around, const ListenRequest& request) noexcept;
/// For udp://: what the policy means for datagrams.
Result<std::unique_ptr<EndpointBackend>> make_datagram_backend(Surroundings& around, const ListenRequest& request) noexcept;

/// True when the kernel runs our eBPF selection: what `auto` decides by.
bool ebpf_selection_works(const Scoreboard& scoreboard) noexcept;

}  // namespace lb
