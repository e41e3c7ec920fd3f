// SPDX-License-Identifier: MIT
#include "primary/successor.hh"

#include <fcntl.h>

#include <algorithm>

#include "sys/error.hh"

namespace lb {

Result<void> Successor::bequeath(const std::vector<Bequest>& bequests, Act last, const Staff& staff) noexcept try {
  for (const Bequest& bequest : bequests)
    if (auto sent = send(bequest); !sent) return sent;
  Message end;
  end.act = last;
  end.value[0] = staff.listening;
  end.value[1] = staff.scaled_to;
  return send(end, -1, {reinterpret_cast<const char*>(staff.weights.data()), staff.weights.size() * sizeof(uint16_t)});
} catch (...) {
  return Error{ENOMEM, "upgrade"};
}

Result<void> Successor::send(const Bequest& bequest) {
  Message heirloom;
  heirloom.act = Act::heirloom;
  heirloom.endpoint = bequest.cell;
  if (auto packed = bequest.query.pack(heirloom); !packed) return packed;
  if (auto sent = send(heirloom, -1, bequest.blob); !sent) return sent;

  const auto pass = [&](HeirloomSocket what, int fd, std::initializer_list<uint32_t> values) -> Result<void> {
    if (fd < 0) return {};
    Message socket;
    socket.act = Act::sockets;
    socket.endpoint = bequest.cell;
    socket.value[0] = static_cast<uint32_t>(what);
    std::copy(values.begin(), values.end(), socket.value + 1);
    return send(socket, fd);
  };
  const uint64_t device = bequest.path != nullptr ? bequest.path->device() : 0;
  const uint64_t inode = bequest.path != nullptr ? bequest.path->inode() : 0;
  if (auto passed = pass(HeirloomSocket::first, bequest.heritage.socket.get(),
                         {static_cast<uint32_t>(device), static_cast<uint32_t>(device >> 32), static_cast<uint32_t>(inode),
                          static_cast<uint32_t>(inode >> 32)});
      !passed)
    return passed;
  for (const Heritage::Slot& slot : bequest.heritage.others)
    if (auto passed = pass(HeirloomSocket::slot, slot.socket.get(), {slot.index, slot.place}); !passed) return passed;
  return pass(HeirloomSocket::port, bequest.port, {});
}

/// In order: what is owed goes first. ETOOMANYREFS: so many descriptors are under way that the kernel wants them received first.
Result<void> Successor::send(Message& message, int fd, std::string_view payload) {
  if (outbox_.empty()) {
    auto sent = channel_.send(message, {&fd, fd < 0 ? size_t{0} : 1}, payload);
    if (sent || (sent.error().code != EAGAIN && sent.error().code != ETOOMANYREFS)) return sent;
  }
  Parcel parcel{message, UniqueFd(fd < 0 ? -1 : ::fcntl(fd, F_DUPFD_CLOEXEC, 0)), std::string(payload)};
  if (fd >= 0 && !parcel.fd) return last_error("upgrade: F_DUPFD_CLOEXEC");
  outbox_.push_back(std::move(parcel));
  return {};
}

Result<void> Successor::flush() noexcept {
  while (!outbox_.empty()) {
    Parcel& parcel = outbox_.front();
    const int fd = parcel.fd.get();
    auto sent = channel_.send(parcel.message, {&fd, fd < 0 ? size_t{0} : 1}, parcel.payload);
    if (!sent && (sent.error().code == EAGAIN || sent.error().code == ETOOMANYREFS)) return {};
    if (!sent) return sent;
    outbox_.pop_front();
  }
  return {};
}

}  // namespace lb
