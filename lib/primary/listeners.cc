// SPDX-License-Identifier: MIT
#include "primary/listeners.hh"

#include <algorithm>
#include <cstring>

#include "sys/error.hh"

namespace lb {

Result<Listeners::Answer> Listeners::query(Seat seat, const Endpoint& endpoint, uint32_t index, int backlog,
                                           bool v6only) noexcept try {
  const std::string key = endpoint.to_string() + (v6only ? " v6only #" : " #") + std::to_string(index);
  auto found = std::find_if(entries_.begin(), entries_.end(), [&](const auto& entry) { return entry->key == key; });
  if (found == entries_.end()) {
    auto cell = free_cell();
    if (!cell) return cell.error();
    auto entry = std::make_unique<Entry>(Entry{key, {endpoint, backlog, v6only, *cell, policy_}, nullptr, {}});
    auto backend = make_backend(entry->request);
    if (!backend) return backend.error();
    entry->backend = std::move(*backend);
    entries_.push_back(std::move(entry));
    found = std::prev(entries_.end());
  }
  Entry& entry = **found;
  if (std::find(entry.seats.begin(), entry.seats.end(), seat) != entry.seats.end())
    return error_naming(EADDRINUSE, "listen " + key + ": this worker listens there already");
  auto grant = entry.backend->grant(seat);
  auto address = entry.backend->address();
  const uint32_t cell = entry.request.cell;
  if (grant && address) {
    entry.seats.push_back(seat);
    return Answer{std::move(*grant), *address, cell};
  }
  if (entry.seats.empty()) entries_.erase(found);
  return grant ? address.error() : grant.error();
} catch (...) {
  return Error{ENOMEM, "listen"};
}

Result<std::unique_ptr<EndpointBackend>> Listeners::make_backend(ListenRequest& request) noexcept {
  if (request.endpoint.kind() == Endpoint::Kind::udp) return make_datagram_backend(around_, request);
  if (request.policy.backend == Backend::automatic)
    request.policy.backend = ebpf_selection_works(around_.scoreboard) ? Backend::reuseport : Backend::round_robin;
  switch (request.policy.backend) {
    case Backend::shared:
      return make_shared_backend(around_, request);
    case Backend::reuseport:
      return make_reuseport_backend(around_, request);
    default:
      return make_round_robin_backend(around_, request);
  }
}

Result<uint32_t> Listeners::free_cell() noexcept {
  for (uint32_t cell = 0; cell < LB_MAX_ENDPOINTS; ++cell) {
    if (find(cell) != nullptr) continue;
    for (uint32_t slot = 0; slot < around_.scoreboard.slots(); ++slot)
      std::memset(&around_.scoreboard.page(slot).cells[cell], 0, sizeof(lb_endpoint_cell));
    return cell;
  }
  return Error{ENOSPC, "listen: too many endpoints in one cluster (at most 64)"};
}

Listeners::Entry* Listeners::find(uint32_t cell) noexcept {
  for (auto& entry : entries_)
    if (entry->request.cell == cell) return entry.get();
  return nullptr;
}

bool Listeners::listening(Seat seat, uint32_t cell) noexcept {
  Entry* entry = find(cell);
  if (entry == nullptr || std::find(entry->seats.begin(), entry->seats.end(), seat) == entry->seats.end()) return false;
  entry->backend->ready(seat);
  return true;
}

void Listeners::close(Seat seat, uint32_t cell) noexcept {
  Entry* entry = find(cell);
  if (entry == nullptr || std::erase(entry->seats, seat) == 0) return;
  entry->backend->left(seat);
  if (entry->seats.empty()) std::erase_if(entries_, [entry](const auto& each) { return each.get() == entry; });
}

void Listeners::draining(Seat seat) noexcept {
  for (auto& entry : entries_)
    if (std::find(entry->seats.begin(), entry->seats.end(), seat) != entry->seats.end()) entry->backend->draining(seat);
}

void Listeners::left(Seat seat) noexcept {
  for (auto& entry : entries_)
    if (std::erase(entry->seats, seat) != 0) entry->backend->left(seat);
}

void Listeners::refuse_new() noexcept {
  for (auto& entry : entries_) entry->backend->refuse_new();
}

bool Listeners::quiet(bool handshakes) noexcept {
  return std::all_of(entries_.begin(), entries_.end(), [=](auto& entry) { return entry->backend->quiet(handshakes); });
}

void Listeners::turn() noexcept {
  for (auto& entry : entries_) entry->backend->turn();
}

bool Listeners::may_sleep() noexcept {
  return std::all_of(entries_.begin(), entries_.end(), [](auto& entry) { return entry->backend->may_sleep(); });
}

int Listeners::next_turn_ms() noexcept {
  int next = -1;
  for (auto& entry : entries_) {
    const int wanted = entry->backend->next_turn_ms();
    if (wanted >= 0 && (next < 0 || wanted < next)) next = wanted;
  }
  return next;
}

EndpointStatus Listeners::describe(const Entry& entry) const {
  EndpointStatus status;
  status.asked = entry.request.endpoint;
  status.requested = policy_;
  if (auto address = entry.backend->address()) status.address = *address;
  entry.backend->describe(status);
  if (policy_.backend == Backend::automatic && status.effective.backend != Backend::reuseport && status.reason.empty())
    status.reason = "auto: no eBPF here";
  return status;
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
