// SPDX-License-Identifier: MIT
#include "primary/predecessor.hh"

#include <fcntl.h>
#include <sys/socket.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "primary/launch.hh"
#include "sys/error.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

Result<UniqueFd> channel_at(const std::string& text) {
  const auto refuse = [&](int code) {
    return error_naming(code, std::string(kUpgradeVariable) + " \"" + text + "\": no channel to a primary");
  };
  int fd = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fd);
  if (error != std::errc{} || end != text.data() + text.size() || fd < 0) return refuse(EINVAL);
  int type = 0;
  int domain = 0;
  socklen_t length = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0) return refuse(errno);
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) return refuse(errno);
  if (type != SOCK_SEQPACKET || domain != AF_UNIX) return refuse(EPROTOTYPE);
  UniqueFd channel(fd);
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return last_error("F_SETFD");
  return channel;
}

uint64_t wide(const uint32_t* halves) noexcept { return halves[0] | static_cast<uint64_t>(halves[1]) << 32; }

}  // namespace

Result<std::optional<Predecessor>> Predecessor::from_environment() noexcept try {
  const char* variable = std::getenv(kUpgradeVariable);
  if (variable == nullptr) return std::optional<Predecessor>();
  const std::string text = variable;
  ::unsetenv(kUpgradeVariable);
  auto channel = channel_at(text);
  if (!channel) return channel.error();
  return std::optional<Predecessor>(Predecessor(std::move(*channel)));
} catch (...) {
  return Error{ENOMEM, kUpgradeVariable};
}

Heirloom* Predecessor::find(const std::string& key) noexcept {
  const auto found = heirlooms_.find(key);
  return found == heirlooms_.end() || found->second.claimed ? nullptr : &found->second;
}

std::map<uint32_t, Heirloom*> Predecessor::heirlooms() noexcept {
  std::map<uint32_t, Heirloom*> all;
  for (const auto& [cell, key] : keys_) all[cell] = &heirlooms_[key];
  return all;
}

Result<void> Predecessor::act_on(const Message& message, Packet& packet, std::string_view payload) noexcept try {
  if (stage == Stage::taking) return Error{EPROTO, "upgrade: a word after the last"};
  switch (message.act) {
    case Act::heirloom:
      return heirloom(message, payload);
    case Act::sockets:
      return socket(message, packet);
    case Act::told:
      if (stage != Stage::hearing) return Error{EPROTO, "upgrade: told twice"};
      stage = Stage::waiting;
      return hear_staff(message, payload);
    case Act::yours:
      if (stage != Stage::asked) return Error{EPROTO, "upgrade: too early"};
      stage = Stage::taking;
      return hear_staff(message, payload);
    default:
      return Error{EPROTO, "upgrade"};
  }
} catch (...) {
  return Error{ENOMEM, "upgrade"};
}

Result<void> Predecessor::hear_staff(const Message& message, std::string_view payload) {
  if (payload.size() % sizeof(uint16_t) != 0) return Error{EPROTO, "upgrade: weights"};
  staff_ = {message.value[0], message.value[1], std::vector<uint16_t>(payload.size() / sizeof(uint16_t))};
  if (!payload.empty()) std::memcpy(staff_.weights.data(), payload.data(), payload.size());
  return {};
}

Result<void> Predecessor::heirloom(const Message& message, std::string_view payload) {
  if (message.endpoint >= LB_MAX_ENDPOINTS) return Error{EPROTO, "upgrade: endpoint"};
  auto query = ListenQuery::unpack(message);
  if (!query) return query.error();
  const std::string key = Listeners::key_of(*query);
  if (const auto before = keys_.find(message.endpoint); before != keys_.end()) heirlooms_.erase(before->second);
  keys_[message.endpoint] = key;
  Heirloom& heirloom = heirlooms_[key];
  heirloom = {};
  heirloom.query = std::move(*query);
  heirloom.blob = payload;
  return {};
}

Result<void> Predecessor::socket(const Message& message, Packet& packet) {
  const auto key = keys_.find(message.endpoint);
  if (key == keys_.end()) return Error{EPROTO, "upgrade: a socket of no endpoint"};
  if (packet.fds_lost) return Error{EMFILE, "upgrade: no descriptors left"};
  if (packet.fd_count != 1) return Error{EPROTO, "upgrade: one socket"};
  Heirloom& heirloom = heirlooms_[key->second];
  Heritage& heritage = heirloom.heritage;
  UniqueFd fd = std::move(packet.fds[0]);
  auto address = local_address(fd.get());
  if (!address) return address.error();
  const uint32_t* value = message.value + 1;
  switch (static_cast<HeirloomSocket>(message.value[0])) {
    case HeirloomSocket::first: {
      const uint64_t inode = wide(value + 2);
      UnixPath path = inode == 0 ? UnixPath() : UnixPath::of_another(heirloom.query.endpoint.name(), wide(value), inode);
      const bool inherited = heirloom.query.endpoint.kind() == Endpoint::Kind::inherited;
      heritage.socket = BoundSocket::adopt(std::move(fd), *address, std::move(path), inherited);
      return {};
    }
    case HeirloomSocket::slot:
      if (value[0] == 0 || value[0] >= LB_MAX_SLOTS || value[1] >= LB_MAX_SLOTS || heritage.others.size() >= LB_MAX_SLOTS)
        return Error{EPROTO, "upgrade: slot"};
      heritage.others.push_back({value[0], value[1], std::move(fd)});
      return {};
    case HeirloomSocket::port:
      heirloom.port = std::move(fd);
      return {};
  }
  return Error{EPROTO, "upgrade: socket"};
}

}  // namespace lb
