// SPDX-License-Identifier: MIT
// A change of policy, on the same port, under load, with the same workers:
//
//   1. The new backend is opened with the old one's listening sockets (Heritage). Both serve; the old one is in force.
//   2. Every worker is offered the new way for its connections to arrive, beside the old one (Act::source), and says that it listens.
//   3. When all have, or some have and the others take long, the old backend is retired: nobody new gets into it.
//   4. When it is empty, the workers let go of it (Act::part), and it ends.
//
// Nothing is closed that somebody may still be in: the one socket is never closed at all, and what else a reuseport group has is
// emptied first. A worker that hangs meanwhile finds both messages when it wakes; its queues have been rescued as ever. Connections in
// the hands of workers are where they were: nobody is restarted.
#include "primary/policy_change.hh"

#include <algorithm>

#include "backends/heritage.hh"
#include "primary/listeners.hh"
#include "sys/error.hh"
#include "sys/process.hh"

namespace lb {
namespace {

constexpr uint64_t kJoin_ns = 1'000'000'000;  // patience with those that do not come to listen, if others have
constexpr uint64_t kPart_ns = 1'000'000'000;  // and with those that do not let go
constexpr uint64_t kOfferAgain_ns = 50'000'000;

bool holds(const std::vector<Seat>& seats, Seat seat) { return std::find(seats.begin(), seats.end(), seat) != seats.end(); }

}  // namespace

/// All are, without a name; by the name they are asked for by, or are bound to.
bool Listeners::is_meant(const Entry& entry, const Endpoint* only) noexcept {
  if (only == nullptr || entry.asked == *only) return true;
  const auto address = entry.backend->address();
  return address && *address == *only;
}

Result<void> Listeners::set_policy(const Policy& policy, const Endpoint* only) noexcept try {
  std::vector<Prepared> prepared;
  bool known = only == nullptr;
  for (auto& entry : entries_) {
    if (!is_meant(*entry, only)) continue;
    known = true;
    if (entry->request.options.exclusive || entry->asked.kind() == Endpoint::Kind::udp) {
      if (only != nullptr)
        return error_naming(EOPNOTSUPP, "set_policy " + only->to_string() +
                                            ": the policy of datagrams, and of endpoints exclusive to a worker, does not change");
      continue;
    }
    if (entry->change || entry->refusing) continue;
    if (auto done = prepare(*entry, policy, prepared); !done) {
      for (Prepared& each : prepared)
        if (each.backend) each.entry->backend->resume();
      return done;
    }
  }
  if (!known) return error_naming(ENOENT, "set_policy " + only->to_string() + ": no worker listens there");
  if (only == nullptr) policy_ = policy;
  for (auto& entry : entries_) {
    if (entry->request.options.exclusive || entry->asked.kind() == Endpoint::Kind::udp) continue;
    if (!is_meant(*entry, only)) continue;
    if (entry->change)
      entry->next = policy;
    else
      entry->requested = policy;
  }
  for (Prepared& each : prepared) begin(each);
  return {};
} catch (...) {
  return Error{ENOMEM, "set_policy"};
}

Result<void> Listeners::prepare(Entry& entry, const Policy& policy, std::vector<Prepared>& prepared) noexcept try {
  ListenRequest request = entry.request;
  request.policy = policy;
  request.fallback.clear();
  if (auto settled = settle(request); !settled) return settled;
  if (request.policy.backend == entry.request.policy.backend && entry.backend->may_select(request.policy.selector)) {
    prepared.push_back({&entry, std::move(request), nullptr});
    return {};
  }
  auto cell = free_cell(&prepared);
  if (!cell) return cell.error();
  request.cell = *cell;
  auto heritage = entry.backend->bequeath();
  if (!heritage) return heritage.error();
  auto backend = make_backend(request, &*heritage);
  if (!backend) {
    entry.backend->resume();
    return backend.error();
  }
  prepared.push_back({&entry, std::move(request), std::move(*backend)});
  return {};
} catch (...) {
  return Error{ENOMEM, "set_policy"};
}

void Listeners::begin(Prepared& prepared) noexcept {
  Entry& entry = *prepared.entry;
  entry.not_changed.clear();
  if (!prepared.backend) {
    entry.backend->select(prepared.request.policy.selector);
    entry.request = std::move(prepared.request);
    if (on_change) on_change(describe(entry), "");
    return;
  }
  entry.change.emplace();
  PolicyChange& change = *entry.change;
  change.old = std::exchange(entry.backend, std::move(prepared.backend));
  change.request = std::exchange(entry.request, std::move(prepared.request));
  change.seats = std::exchange(entry.seats, {});
  change.listening = std::exchange(entry.listening, {});
  change.owed = change.seats;
  change.since_ns = now_ns();
}

/// Tells a worker of a further way for connections to arrive, beside that of the cell by which it knows its listener: the new one, or,
/// to a newcomer who has that, the older one.
bool Listeners::offer(Entry& entry, Seat seat, uint32_t known) noexcept {
  const bool older = known == entry.request.cell;
  EndpointBackend& backend = older ? *entry.change->old : *entry.backend;
  auto grant = backend.grant(seat);
  auto address = backend.address();
  const uint32_t cell = older ? entry.change->request.cell : entry.request.cell;
  Message message;
  message.act = Act::source;
  message.endpoint = cell;
  message.value[4] = known;
  message.value[5] = older ? 1 : 0;
  bool told = grant && address;
  if (told) {
    message.value[0] = static_cast<uint32_t>(grant->arrival);
    std::copy(std::begin(grant->value), std::end(grant->value), message.value + 1);
    message.set_text(address->to_string());
    told = around_.tell(seat.worker, message, grant->fds).ok();
  }
  if (told)
    (older ? entry.change->seats : entry.seats).push_back(seat);
  else if (grant)
    backend.left(seat);
  return told;
}

bool Listeners::joined_by_all(const Entry& entry) const noexcept {
  const auto& seats = entry.change->seats;
  return std::all_of(seats.begin(), seats.end(), [&](Seat seat) { return holds(entry.listening, seat); });
}

/// At the end of each turn.
void Listeners::advance(Entry& entry) noexcept {
  PolicyChange& change = *entry.change;
  const uint64_t now = now_ns();
  if (!change.owed.empty() && now >= change.owed_again_ns) {
    std::erase_if(change.owed, [&](Seat seat) { return offer(entry, seat, change.request.cell); });
    change.owed_again_ns = now + kOfferAgain_ns;
  }
  if (!change.retired) {
    const bool some = !entry.listening.empty() && now - change.since_ns >= kJoin_ns;
    if (!joined_by_all(entry) && !some) return;
    change.old->retire(change.request.policy.backend == entry.request.policy.backend);
    change.retired = true;
  }
  if (!change.parting) {
    if (!change.owed.empty() || !change.old->emptied()) return;
    change.parting = true;
    change.since_ns = now;
  }
  tell_to_part(entry);
  if (change.seats.empty() || now - change.since_ns >= kPart_ns) finish(entry);
}

void Listeners::tell_to_part(Entry& entry) noexcept {
  PolicyChange& change = *entry.change;
  for (const Seat seat : change.seats) {
    if (holds(change.told, seat)) continue;
    Message message;
    message.act = Act::part;
    message.value[0] = change.old->lives_on(seat) ? 1 : 0;
    message.endpoint = change.request.cell;
    if (around_.tell(seat.worker, message, {})) change.told.push_back(seat);
  }
}

void Listeners::finish(Entry& entry) noexcept {
  EndpointStatus last;
  entry.change->old->describe(last);
  entry.lost_before += last.lost;
  drop_change(entry);
  if (on_change) on_change(describe(entry), "");
  begin_next(entry);
}

void Listeners::drop_change(Entry& entry) noexcept {
  if (!entry.change) return;
  entry.change->old->finish();
  if (!entry.change->seats.empty())
    forgotten_.push_back({entry.change->request.cell, entry.request.cell, std::move(entry.change->seats)});
  entry.change.reset();
}

/// What was asked for meanwhile.
void Listeners::begin_next(Entry& entry) noexcept {
  if (!entry.next) return;
  const Policy policy = *std::exchange(entry.next, {});
  std::vector<Prepared> prepared;
  if (auto done = prepare(entry, policy, prepared); !done) {
    entry.not_changed = policy.to_string() + ": " + done.error().message();
    if (on_change) on_change(describe(entry), entry.not_changed.c_str());
    return;
  }
  entry.requested = policy;
  for (Prepared& each : prepared) begin(each);
}

Listeners::About Listeners::listening(Seat seat, uint32_t cell) noexcept {
  Entry* entry = find(cell);
  if (entry == nullptr) return About::nothing;
  const bool older = entry->change && entry->change->request.cell == cell;
  auto& seats = older ? entry->change->seats : entry->seats;
  auto& listening = older ? entry->change->listening : entry->listening;
  if (!holds(seats, seat) || holds(listening, seat)) return About::nothing;
  listening.push_back(seat);
  entry->served = true;
  (older ? *entry->change->old : *entry->backend).ready(seat);
  if (const ForgottenCell* forgotten = find_forgotten(cell, seat)) {
    part_late(*forgotten, seat);
    return About::source;
  }
  if (!entry->change) return About::listener;
  // Whoever has the other way as well has been offered this one; a newcomer helps with what is left of the old one.
  if (holds(older ? entry->seats : entry->change->seats, seat)) {
    const bool first = older ? !holds(entry->listening, seat) : !holds(entry->change->listening, seat);
    return first && older ? About::listener : About::source;
  }
  // But a whole group that was taken over has no queue that is the old one's alone, and must get no further socket from it.
  const Backend before = entry->change->request.policy.backend;
  const bool whole = before == Backend::reuseport && entry->request.policy.backend == before;
  if (!older && !whole && !entry->change->parting) (void)offer(*entry, seat, cell);
  return About::listener;
}

Listeners::About Listeners::close(Seat seat, uint32_t cell, bool leaves) noexcept {
  for (ForgottenCell& forgotten : forgotten_) {
    if (forgotten.cell != cell || std::erase(forgotten.seats, seat) == 0) continue;
    std::erase(forgotten.owed, seat);
    if (Entry* heir = find(forgotten.heir)) heir->backend->recount(seat);
    std::erase_if(forgotten_, [](const ForgottenCell& each) { return each.seats.empty(); });
    return About::source;
  }
  Entry* entry = find(cell);
  if (entry == nullptr) return About::nothing;
  if (entry->change && entry->change->request.cell == cell) return close_source(*entry, seat, leaves);
  const bool refused =
      entry->change && holds(entry->seats, seat) && !holds(entry->listening, seat) && holds(entry->change->seats, seat);
  ForgottenCell* forgotten = holds(entry->seats, seat) && !holds(entry->listening, seat) ? find_forgotten(cell, seat) : nullptr;
  if (!refused && forgotten == nullptr) return close_listener(*entry, seat, leaves);
  std::erase(entry->seats, seat);  // it could not take the new way, for want of descriptors: again later
  entry->backend->left(seat);
  (refused ? entry->change->owed : forgotten->owed).push_back(seat);
  (refused ? entry->change->owed_again_ns : forgotten->owed_again_ns) = now_ns() + kOfferAgain_ns;
  return About::source;
}

/// What a worker did not let go of in time, and has had this cell's way instead, or is to have.
ForgottenCell* Listeners::find_forgotten(uint32_t heir, Seat seat) noexcept {
  const auto found = std::find_if(forgotten_.begin(), forgotten_.end(),
                                  [&](const auto& each) { return each.heir == heir && holds(each.seats, seat); });
  return found == forgotten_.end() ? nullptr : &*found;
}

/// It may have been told while it had no other way, and kept it.
void Listeners::part_late(const ForgottenCell& forgotten, Seat seat) noexcept {
  Message message;
  message.act = Act::part;
  message.endpoint = forgotten.cell;
  message.value[0] = 1;
  (void)around_.tell(seat.worker, message, {});
}

/// The change is over, but not for those that could not take part.
void Listeners::offer_late() noexcept {
  for (ForgottenCell& forgotten : forgotten_) {
    if (forgotten.owed.empty() || now_ns() < forgotten.owed_again_ns) continue;
    forgotten.owed_again_ns = now_ns() + kOfferAgain_ns;
    Entry* entry = find(forgotten.heir);
    if (entry == nullptr || entry->change || entry->refusing) continue;
    std::erase_if(forgotten.owed, [&](Seat seat) { return offer(*entry, seat, forgotten.cell); });
  }
}

/// It lets go of the old way, or else closes its listener, which it knows by that alone.
Listeners::About Listeners::close_source(Entry& entry, Seat seat, bool leaves) noexcept {
  PolicyChange& change = *entry.change;
  std::erase(change.listening, seat);
  std::erase(change.owed, seat);
  if (std::erase(change.seats, seat) == 0) return About::nothing;
  change.old->left(seat);
  if (holds(entry.listening, seat)) return entry.backend->recount(seat), About::source;
  if (holds(entry.seats, seat)) return close_listener(entry, seat, leaves);
  return About::listener;
}

/// One that could not take up what others had served leaves too: it may be the only one just now, and clients wait there.
Listeners::About Listeners::close_listener(Entry& entry, Seat seat, bool leaves) noexcept {
  const bool took_up = holds(entry.listening, seat) || (entry.change && holds(entry.change->listening, seat));
  if (leaves || (entry.served && !took_up && !entry.request.options.exclusive))
    return leave(entry, seat) ? About::listener : About::nothing;
  if (std::erase(entry.seats, seat) == 0) return About::nothing;
  std::erase(entry.listening, seat);
  entry.backend->left(seat);
  if (!entry.seats.empty() || (entry.change && !entry.change->seats.empty())) return About::listener;
  drop_change(entry);
  std::erase_if(entries_, [&](const auto& each) { return each.get() == &entry; });
  return About::listener;
}

}  // namespace lb
