// SPDX-License-Identifier: MIT
#include "primary/listeners.hh"

#include <algorithm>
#include <cstring>

#include "backends/heritage.hh"
#include "backends/kinds.hh"
#include "sys/error.hh"
#include "sys/process.hh"
#include "sys/socket.hh"
#include "sys/socket_options.hh"

namespace lb {
namespace {

constexpr int kLookAtChange_ms = 5;  // while a policy changes

}  // namespace

std::string Listeners::key_of(const ListenQuery& asked) {
  return asked.endpoint.to_string() + (asked.options.v6only ? " v6only #" : " #") + std::to_string(asked.index);
}

Result<Listeners::Answer> Listeners::query(Seat seat, const ListenQuery& asked) noexcept try {
  const std::string key = key_of(asked);
  auto found = std::find_if(entries_.begin(), entries_.end(), [&](const auto& entry) {
    return entry->key == key && !entry->request.options.exclusive && !asked.options.exclusive;
  });
  auto opened = found != entries_.end() ? Result<Entry*>(found->get()) : create(asked, key);
  if (!opened) return opened.error();
  Entry& entry = **opened;
  if (entry.refusing) {
    if (auto reopened = open(entry); !reopened) return reopened.error();
  }
  if (std::find(entry.seats.begin(), entry.seats.end(), seat) != entry.seats.end())
    return error_naming(EADDRINUSE, "listen " + key + ": this worker listens there already");
  if (auto alike = check_alike(asked.options, entry.request.options, asked.endpoint); !alike) return alike.error();
  if (asked.options.backlog != entry.request.options.backlog) {
    if (auto set = entry.backend->set_backlog(asked.options.backlog); !set) return set.error();
    entry.request.options.backlog = asked.options.backlog;
  }
  auto grant = entry.backend->grant(seat);
  auto address = entry.backend->address();
  const uint32_t cell = entry.request.cell;
  if (grant && address) {
    entry.seats.push_back(seat);
    return Answer{std::move(*grant), *address, cell};
  }
  // What others have served, or serve until its policy has changed, waits for another attempt: clients may be in its queue.
  if (entry.seats.empty() && !entry.served && !entry.change)
    std::erase_if(entries_, [&](const auto& each) { return each.get() == &entry; });
  return grant ? address.error() : grant.error();
} catch (...) {
  return Error{ENOMEM, "listen"};
}

/// The first worker that asks for it.
Result<Listeners::Entry*> Listeners::create(const ListenQuery& asked, std::string key) {
  auto cell = free_cell();
  if (!cell) return cell.error();
  ListenRequest request{asked.endpoint, asked.options, *cell, policy_, {}, asked.bound};
  auto entry = std::make_unique<Entry>(Entry{std::move(key), std::move(request), nullptr, {}});
  entry->asked = asked.endpoint;
  entry->requested = policy_;
  entry->index = asked.index;
  Heirloom* left = find_heirloom_ && !asked.options.exclusive ? find_heirloom_(entry->key) : nullptr;
  if (auto opened = left != nullptr ? inherit(*entry, *left) : open(*entry); !opened) return opened.error();
  entries_.push_back(std::move(entry));
  return entries_.back().get();
}

/// A bound socket that does not listen keeps a port from everybody else, and clients are refused there; who is to listen may still
/// bind it beside (SO_REUSEADDR, socket(7)).
Result<void> Listeners::open(Entry& entry, Heritage* heritage) noexcept {
  if (!entry.port && heritage == nullptr && without_workers_ == Options::WithoutWorkers::refuse &&
      entry.asked.kind() == Endpoint::Kind::tcp && !entry.request.options.exclusive) {
    auto port = bind_to(entry.asked, {.v6only = entry.request.options.v6only});
    if (!port) return port.error();
    auto bound = local_address(port->get());
    if (!bound) return bound.error();
    entry.port = std::move(*port);
    entry.request.endpoint = *bound;
  }
  entry.request.policy = entry.requested;
  entry.request.fallback.clear();
  if (auto settled = settle(entry.request); !settled) return settled;
  auto backend = make_backend(entry.request, heritage);
  if (!backend) return backend.error();
  entry.backend = std::move(*backend);
  entry.refusing = false;
  return {};
}

/// What the policy asked for means for this endpoint, here.
Result<void> Listeners::settle(ListenRequest& request) noexcept {
  if (request.options.exclusive || request.endpoint.kind() == Endpoint::Kind::udp) return {};
  if (auto settled = settle_policy(request, around_.strict); !settled) return settled;
  if (request.policy.backend == Backend::automatic)
    request.policy.backend = ebpf_selection_works(around_.scoreboard) ? Backend::reuseport : Backend::round_robin;
  if (around_.strict && around_.max_in_flight != 0 && request.policy.backend != Backend::round_robin)
    return error_naming(ENOTSUP,
                        "LB_STRICT: Options::max_in_flight under " + request.policy.to_string() + " (allowed: round-robin)");
  return {};
}

Result<std::unique_ptr<EndpointBackend>> Listeners::make_backend(const ListenRequest& request, Heritage* heritage) noexcept {
  if (request.options.exclusive) return make_exclusive_backend(around_, request);
  if (request.endpoint.kind() == Endpoint::Kind::udp) return make_datagram_backend(around_, request);
  switch (request.policy.backend) {
    case Backend::shared:
      return make_shared_backend(around_, request, heritage);
    case Backend::reuseport:
      return make_reuseport_backend(around_, request, heritage);
    default:
      return make_round_robin_backend(around_, request, heritage);
  }
}

Result<uint32_t> Listeners::free_cell(const std::vector<Prepared>* prepared) noexcept {
  const auto taken = [&](uint32_t cell) {
    return find(cell) != nullptr ||
           std::any_of(forgotten_.begin(), forgotten_.end(), [=](const auto& each) { return each.cell == cell; }) ||
           (prepared != nullptr &&
            std::any_of(prepared->begin(), prepared->end(), [=](const auto& each) { return each.request.cell == cell; }));
  };
  for (uint32_t cell = 0; cell < LB_MAX_ENDPOINTS; ++cell) {
    if (taken(cell)) continue;
    for (uint32_t slot = 0; slot < around_.scoreboard.slots(); ++slot)
      std::memset(&around_.scoreboard.page(slot).cells[cell], 0, sizeof(lb_endpoint_cell));
    return cell;
  }
  return Error{ENOSPC, "listen: too many endpoints in one cluster (at most 64; one that changes its policy counts twice)"};
}

Listeners::Entry* Listeners::find(uint32_t cell) noexcept {
  for (auto& entry : entries_)
    if (entry->request.cell == cell || (entry->change && entry->change->request.cell == cell)) return entry.get();
  return nullptr;
}

bool Listeners::granted(Seat seat) const noexcept {
  const auto holds = [=](const std::vector<Seat>& seats) { return std::find(seats.begin(), seats.end(), seat) != seats.end(); };
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const auto& entry) { return holds(entry->seats) || (entry->change && holds(entry->change->seats)); });
}

void Listeners::draining(Seat seat) noexcept {
  for (auto& entry : entries_) {
    const auto in = [&](const std::vector<Seat>& seats) { return std::find(seats.begin(), seats.end(), seat) != seats.end(); };
    if (in(entry->seats)) entry->backend->draining(seat);
    if (entry->change && in(entry->change->seats)) entry->change->old->draining(seat);
  }
}

void Listeners::weigh(Seat seat) noexcept {
  for (auto& entry : entries_)
    if (std::find(entry->seats.begin(), entry->seats.end(), seat) != entry->seats.end()) entry->backend->weigh(seat);
}

void Listeners::left(Seat seat) noexcept {
  for (auto& entry : entries_) leave(*entry, seat);
  for (auto& forgotten : forgotten_) {
    std::erase(forgotten.seats, seat);
    std::erase(forgotten.owed, seat);
  }
  std::erase_if(forgotten_, [](const ForgottenCell& each) { return each.seats.empty(); });
  std::erase_if(entries_, [](const auto& entry) { return entry->request.options.exclusive && entry->seats.empty(); });
}

bool Listeners::leave(Entry& entry, Seat seat) noexcept {
  bool known = false;
  if (entry.change) {
    PolicyChange& change = *entry.change;
    std::erase(change.listening, seat);
    std::erase(change.owed, seat);
    known = std::erase(change.seats, seat) != 0;
    if (known) change.old->left(seat);
  }
  std::erase(entry.listening, seat);
  if (std::erase(entry.seats, seat) != 0) {
    entry.backend->left(seat);
    known = true;
  }
  const bool somebody = !entry.seats.empty() || (entry.change && !entry.change->seats.empty());
  if (!known || somebody || !entry.port) return known;
  drop_change(entry);
  entry.backend = make_refusing_backend(entry.request);
  entry.refusing = true;
  return true;
}

Result<void> Listeners::reserve() noexcept {
  for (auto& entry : entries_)
    if (auto reserved = entry->backend->reserve(); !reserved) return reserved;
  return {};
}

void Listeners::refuse_new() noexcept {
  for (auto& entry : entries_) {
    entry->backend->refuse_new();
    if (entry->change) entry->change->old->refuse_new();
  }
}

bool Listeners::quiet(bool handshakes) noexcept {
  bool all = true;
  for (auto& entry : entries_) {
    all &= entry->backend->quiet(handshakes);
    if (entry->change) all &= entry->change->old->quiet(handshakes);
  }
  return all;
}

void Listeners::turn() noexcept {
  for (auto& entry : entries_) {
    entry->backend->turn();
    if (!entry->change) continue;
    entry->change->old->turn();
    advance(*entry);
  }
  offer_late();
}

/// A nap only if all that is listened on by round-robin may have one.
EventLoop::Sleep Listeners::may_sleep() noexcept {
  using Sleep = EventLoop::Sleep;
  Sleep all = Sleep::yes;
  bool some_yes = entries_.empty();
  const auto ask = [&](EndpointBackend& backend) {
    const Sleep one = backend.may_sleep();
    some_yes |= one == Sleep::yes;
    all = std::min(all, one);
  };
  for (auto& entry : entries_) {
    ask(*entry->backend);
    if (entry->change) ask(*entry->change->old);
  }
  return some_yes && all != Sleep::no ? Sleep::yes : all;
}

int Listeners::next_turn_ms() noexcept {
  int next = -1;
  const auto at_most = [&](int wanted) {
    if (wanted >= 0 && (next < 0 || wanted < next)) next = wanted;
  };
  for (auto& entry : entries_) {
    at_most(entry->backend->next_turn_ms());
    if (!entry->change) continue;
    at_most(entry->change->old->next_turn_ms());
    at_most(kLookAtChange_ms);
  }
  for (const ForgottenCell& forgotten : forgotten_)
    if (!forgotten.owed.empty()) at_most(ms_until(forgotten.owed_again_ns));
  return next;
}

/// The old backend's figures count too.
void Listeners::describe_change(const Entry& entry, EndpointStatus& status) {
  const PolicyChange& change = *entry.change;
  EndpointStatus old;
  change.old->describe(old);
  status.queued += old.queued;
  status.queue_age_ms = std::max(status.queue_age_ms, old.queue_age_ms);
  status.lost += old.lost;
  status.retried += old.retried;
  for (WorkerLoad& load : old.workers) {
    const auto same =
        std::find_if(status.workers.begin(), status.workers.end(), [&](auto& each) { return each.worker == load.worker; });
    if (same == status.workers.end()) {
      status.workers.push_back(load);
      continue;
    }
    same->accepted += load.accepted;
    same->backlog += load.backlog;
  }
  status.changing = "from " + old.effective.to_string() + ": " +
                    (change.parting   ? std::to_string(change.seats.size()) + " workers to let go"
                     : change.retired ? std::string("its queues are being emptied")
                                      : std::to_string(entry.listening.size()) + " workers joined, " +
                                            std::to_string(change.seats.size()) + " had it");
}

EndpointStatus Listeners::identify(const Entry& entry) const {
  EndpointStatus status;
  status.asked = entry.asked;
  status.requested = entry.requested;
  if (auto address = entry.backend->address()) status.address = *address;
  entry.backend->identify(status);
  status.not_changed = entry.not_changed;
  if (!entry.request.fallback.empty()) status.reason = entry.request.fallback;
  if (entry.requested.backend == Backend::automatic && status.effective.backend != Backend::reuseport && status.reason.empty())
    status.reason = "auto: no eBPF here";
  if (around_.max_in_flight != 0 && status.effective.backend != Backend::round_robin)
    status.reason += std::string(status.reason.empty() ? "" : "; ") + "max_in_flight holds under round-robin only";
  return status;
}

EndpointStatus Listeners::describe(const Entry& entry) const {
  EndpointStatus status = identify(entry);
  entry.backend->measure(status);
  status.lost += entry.lost_before;
  if (entry.change) describe_change(entry, status);
  return status;
}

EndpointStatus Listeners::identify(uint32_t cell) const {
  Entry* entry = const_cast<Listeners*>(this)->find(cell);
  return entry == nullptr ? EndpointStatus{} : identify(*entry);
}

EndpointStatus Listeners::describe(uint32_t cell) const {
  Entry* entry = const_cast<Listeners*>(this)->find(cell);
  return entry == nullptr ? EndpointStatus{} : describe(*entry);
}

std::vector<EndpointStatus> Listeners::describe() const {
  std::vector<EndpointStatus> all;
  for (const auto& entry : entries_) all.push_back(describe(*entry));
  return all;
}

}  // namespace lb
