// SPDX-License-Identifier: MIT
// What endpoints leave to a new primary, and what they get from an old one.
#include <algorithm>

#include "primary/listeners.hh"
#include "sys/error.hh"
#include "sys/socket.hh"
#include "sys/socket_options.hh"

namespace lb {

Result<std::vector<Bequest>> Listeners::bequests() noexcept try {
  std::vector<Bequest> all;
  for (auto& entry : entries_) {
    if (entry->request.options.exclusive) continue;
    Bequest bequest{
        entry->request.cell, {entry->asked, entry->index, entry->request.options, {}}, entry->blob, {}, entry->backend->path(),
        entry->port.get()};
    if (!entry->refusing) {
      auto heritage = entry->backend->bequeath();
      if (!heritage) return heritage.error();
      bequest.heritage = std::move(*heritage);
    }
    all.push_back(std::move(bequest));
  }
  return all;
} catch (...) {
  return Error{ENOMEM, "upgrade"};
}

void Listeners::lend() noexcept {
  for (auto& entry : entries_) entry->backend->lend();
}

void Listeners::resume() noexcept {
  for (auto& entry : entries_) entry->backend->resume();
}

void Listeners::leave_to_others(const std::map<uint32_t, bool>& whole) noexcept {
  for (auto& entry : entries_) {
    const auto found = whole.find(entry->request.cell);
    entry->to_others = found != whole.end();
    if (!entry->to_others) {
      entry->backend->refuse_new();
      continue;
    }
    entry->backend->retire(found->second);
    if (UnixPath* path = entry->backend->path()) path->own(false);
  }
}

bool Listeners::left_nothing(bool handshakes) noexcept {
  return std::all_of(entries_.begin(), entries_.end(), [=](auto& entry) {
    if (entry->request.options.exclusive) return true;
    if (entry->to_others) return entry->backend->emptied();
    EndpointStatus status;
    entry->backend->describe(status);
    return entry->backend->quiet(handshakes) && status.queued == 0;
  });
}

bool Listeners::changing() const noexcept {
  return std::any_of(entries_.begin(), entries_.end(), [](const auto& entry) { return entry->change || entry->next; });
}

/// What is settled before the socket is bound was settled over there. The port's keeper, if there is one, has the address.
Result<void> Listeners::inherit(Entry& entry, Heirloom& left) noexcept {
  const ListenOptions& asked = entry.request.options;
  if (auto alike = check_alike(asked, left.query.options, entry.asked); !alike) return alike;
  if (left.port) {
    auto bound = local_address(left.port.get());
    if (!bound) return bound.error();
    entry.port = std::move(left.port);
    entry.request.endpoint = *bound;
  }
  left.claimed = true;
  left.cell = entry.request.cell;
  entry.blob = left.blob;
  left.heritage.lent = true;
  const bool closed = left.heritage.socket.get() < 0;  // no worker served it there
  if (auto opened = open(entry, closed ? nullptr : &left.heritage); !opened) return opened;
  left.heritage = {};
  return asked.backlog == left.query.options.backlog ? Result<void>() : entry.backend->set_backlog(asked.backlog);
}

bool Listeners::serves(const Heirloom& heirloom) noexcept {
  const Entry* entry = heirloom.claimed ? find(heirloom.cell) : nullptr;
  return entry != nullptr && !entry->listening.empty();
}

bool Listeners::has_group(const Heirloom& heirloom) noexcept {
  const Entry* entry = heirloom.claimed ? find(heirloom.cell) : nullptr;
  return entry != nullptr && entry->request.policy.backend == Backend::reuseport;
}

void Listeners::own() noexcept {
  for (auto& entry : entries_) {
    entry->backend->own();
    if (UnixPath* path = entry->backend->path()) path->own(true);
  }
}

}  // namespace lb
