// SPDX-License-Identifier: MIT
#include "sys/socket_options.hh"

#include <net/if.h>
#include <netinet/tcp.h>

#include <algorithm>

#include "sys/error.hh"

namespace lb {
namespace {

using Kind = Endpoint::Kind;

constexpr unsigned kBufferMax = 1U << 30;
constexpr unsigned kShortMax = 65535;
constexpr unsigned kModeMax = 0777;

Error bad_option(const Endpoint& endpoint, std::string_view name, const std::string& value, std::string_view why) {
  return error_naming(EINVAL, "listen " + endpoint.to_string() + ": ListenOptions::" + std::string(name) + " " + value + " (" +
                                  std::string(why) + ")");
}

/// The options that are numbers, where 0 means "as if not asked for".
struct Number {
  const char* name;
  unsigned ListenOptions::*value;
  unsigned max;
  bool tcp_only;
};
constexpr Number kNumbers[] = {
    {"defer_accept_s", &ListenOptions::defer_accept_s, kShortMax, true},
    {"fast_open", &ListenOptions::fast_open, kShortMax, true},
    {"receive_buffer", &ListenOptions::receive_buffer, kBufferMax, false},
    {"send_buffer", &ListenOptions::send_buffer, kBufferMax, false},
};

Result<void> check_for_inherited(const ListenOptions& options, const Endpoint& endpoint) {
  ListenOptions none;
  none.backlog = options.backlog;
  none.blob = options.blob;
  if (options == none) return {};
  return error_naming(EINVAL, "listen " + endpoint.to_string() +
                                  ": an inherited socket is bound already, so of ListenOptions only backlog applies");
}

Result<void> check_unix(const ListenOptions& options, const Endpoint& endpoint) {
  const bool path = endpoint.kind() == Kind::unix_socket && endpoint.name().starts_with('/');
  if (options.permissions != 0 && !path)
    return bad_option(endpoint, "permissions", "", "allowed: for unix:/PATH, as nothing else has a mode");
  if (options.permissions > kModeMax)
    return bad_option(endpoint, "permissions", std::to_string(options.permissions), "allowed: 0 to 0777, octal");
  return {};
}

Result<void> check_device(const ListenOptions& options, const Endpoint& endpoint) {
  if (options.device.empty()) return {};
  if (endpoint.kind() == Kind::unix_socket) return bad_option(endpoint, "device", options.device, "allowed: for IP endpoints");
  const bool bad = std::any_of(options.device.begin(), options.device.end(), [](unsigned char c) { return c <= ' ' || c == '/'; });
  if (bad || options.device.size() >= IFNAMSIZ)
    return bad_option(endpoint, "device", "\"" + options.device.substr(0, IFNAMSIZ) + "\"",
                      "allowed: an interface's name, at most 15 bytes");
  return {};
}

Result<void> set(int fd, int level, int option, const void* value, socklen_t size, const char* op, const Endpoint& endpoint) {
  if (::setsockopt(fd, level, option, value, size) == 0) return {};
  const int code = errno;
  return error_naming(code, std::string(op) + " for " + endpoint.to_string());
}

}  // namespace

Result<void> check_options(const ListenOptions& options, const Endpoint& endpoint) noexcept try {
  if (options.backlog < 0) return bad_option(endpoint, "backlog", std::to_string(options.backlog), "allowed: 0 and up");
  if (endpoint.kind() == Kind::inherited) return check_for_inherited(options, endpoint);
  for (const Number& number : kNumbers) {
    const unsigned value = options.*number.value;
    if (value > number.max)
      return bad_option(endpoint, number.name, std::to_string(value), "allowed: 0 to " + std::to_string(number.max));
    if (value != 0 && number.tcp_only && endpoint.kind() != Kind::tcp)
      return bad_option(endpoint, number.name, std::to_string(value), "allowed: for tcp:// endpoints");
  }
  if (auto good = check_unix(options, endpoint); !good) return good;
  return check_device(options, endpoint);
} catch (...) {
  return Error{ENOMEM, "listen"};
}

Result<void> check_alike(const ListenOptions& asked, const ListenOptions& open, const Endpoint& endpoint) noexcept try {
  const auto differs = [&](const char* name, const std::string& is, const std::string& wanted) {
    return bad_option(endpoint, name, wanted, "the endpoint is open with " + is + ", which all its workers must ask for");
  };
  for (const Number& number : kNumbers)
    if (asked.*number.value != open.*number.value)
      return differs(number.name, std::to_string(open.*number.value), std::to_string(asked.*number.value));
  if (asked.permissions != open.permissions)
    return differs("permissions", std::to_string(open.permissions), std::to_string(asked.permissions));
  if (asked.device != open.device) return differs("device", "\"" + open.device + "\"", "\"" + asked.device + "\"");
  return {};
} catch (...) {
  return Error{ENOMEM, "listen"};
}

Result<void> set_before_bind(int fd, const ListenOptions& options, const Endpoint& endpoint) noexcept try {
  struct Option {
    unsigned value;
    int level;
    int option;
    const char* op;
  };
  const Option numbers[] = {
      {options.receive_buffer, SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF"},
      {options.send_buffer, SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF"},
      {options.defer_accept_s, IPPROTO_TCP, TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT"},
      {options.fast_open, IPPROTO_TCP, TCP_FASTOPEN, "TCP_FASTOPEN"},
  };
  for (const Option& number : numbers) {
    if (number.value == 0) continue;
    const int value = static_cast<int>(number.value);
    if (auto done = set(fd, number.level, number.option, &value, sizeof value, number.op, endpoint); !done) return done;
  }
  if (options.device.empty()) return {};
  return set(fd, SOL_SOCKET, SO_BINDTODEVICE, options.device.data(), static_cast<socklen_t>(options.device.size()),
             ("SO_BINDTODEVICE " + options.device).c_str(), endpoint);
} catch (...) {
  return Error{ENOMEM, "listen"};
}

}  // namespace lb
