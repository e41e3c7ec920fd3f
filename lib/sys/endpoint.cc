// SPDX-License-Identifier: MIT
#include <lb/endpoint.hh>

#include <arpa/inet.h>
#include <sys/un.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstddef>
#include <cstring>

#include "sys/error.hh"

namespace lb {
namespace {

constexpr std::string_view kTcp = "tcp://";
constexpr std::string_view kUdp = "udp://";
constexpr std::string_view kUnix = "unix:";
constexpr std::string_view kInherited = "fd:";
constexpr size_t kPathMax = sizeof(sockaddr_un::sun_path) - 1;

Error bad_endpoint(std::string_view text, std::string_view why) noexcept {
  try {
    const auto shown = std::string(text.substr(0, 200)) + (text.size() > 200 ? "..." : "");
    return error_naming(EINVAL, "endpoint \"" + shown + "\": " + std::string(why) +
                                    " (allowed: tcp://ADDRESS:PORT, tcp://[IPV6]:PORT, tcp://*:PORT, the same with udp://, "
                                    "unix:/PATH, unix:@NAME, fd:NUMBER, fd:NAME)");
  } catch (...) {
    return {EINVAL, "endpoint"};
  }
}

sockaddr_in* as_v4(sockaddr_storage& storage) { return reinterpret_cast<sockaddr_in*>(&storage); }
sockaddr_in6* as_v6(sockaddr_storage& storage) { return reinterpret_cast<sockaddr_in6*>(&storage); }
sockaddr_un* as_unix(sockaddr_storage& storage) { return reinterpret_cast<sockaddr_un*>(&storage); }
const sockaddr_in* as_v4(const sockaddr_storage& storage) { return reinterpret_cast<const sockaddr_in*>(&storage); }
const sockaddr_in6* as_v6(const sockaddr_storage& storage) { return reinterpret_cast<const sockaddr_in6*>(&storage); }
const sockaddr_un* as_unix(const sockaddr_storage& storage) { return reinterpret_cast<const sockaddr_un*>(&storage); }

}  // namespace

Result<Endpoint> Endpoint::parse(std::string_view text) noexcept {
  if (text.find('\0') != std::string_view::npos) return bad_endpoint(text.substr(0, text.find('\0')), "it holds a zero byte");
  if (text.starts_with(kTcp)) return parse_ip(text, text.substr(kTcp.size()), Kind::tcp);
  if (text.starts_with(kUdp)) return parse_ip(text, text.substr(kUdp.size()), Kind::udp);
  if (text.starts_with(kUnix)) return parse_unix(text, text.substr(kUnix.size()));
  if (text.starts_with(kInherited)) return parse_inherited(text, text.substr(kInherited.size()));
  return bad_endpoint(text, "it must begin with tcp://, udp://, unix: or fd:");
}

Result<Endpoint> Endpoint::parse_ip(std::string_view text, std::string_view rest, Kind kind) noexcept {
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos || (!rest.empty() && rest.back() == ']')) return bad_endpoint(text, "it has no port");
  std::string_view host = rest.substr(0, colon);
  const std::string_view port_text = rest.substr(colon + 1);

  uint16_t port = 0;
  const auto [end, status] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (port_text.empty() || status != std::errc{} || end != port_text.data() + port_text.size())
    return bad_endpoint(text, "the port must be a number from 0 to 65535");

  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host == "*" && !bracketed) host = "0.0.0.0";
  char name[INET6_ADDRSTRLEN] = {};
  if (host.empty() || host.size() >= sizeof name) return bad_endpoint(text, "the address must be numeric IPv4 or [IPv6]");
  std::memcpy(name, host.data(), host.size());

  Endpoint endpoint;
  endpoint.kind_ = kind;
  if (bracketed) {
    auto* v6 = as_v6(endpoint.address_);
    if (::inet_pton(AF_INET6, name, &v6->sin6_addr) != 1) return bad_endpoint(text, "the address in [] is not IPv6");
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    endpoint.length_ = sizeof *v6;
    return endpoint;
  }
  auto* v4 = as_v4(endpoint.address_);
  if (::inet_pton(AF_INET, name, &v4->sin_addr) != 1)
    return bad_endpoint(text, host.find(':') != std::string_view::npos ? "an IPv6 address goes in []"
                                                                       : "the address must be numeric IPv4 or [IPv6]");
  v4->sin_family = AF_INET;
  v4->sin_port = htons(port);
  endpoint.length_ = sizeof *v4;
  return endpoint;
}

/// An abstract name begins with a zero byte and ends where the length says; a path ends with a zero byte (unix(7)).
Result<Endpoint> Endpoint::parse_unix(std::string_view text, std::string_view path) noexcept {
  const bool abstract = path.starts_with('@');
  if (path.empty() || path == "@") return bad_endpoint(text, "it has no path");
  if (path.size() > kPathMax)
    return bad_endpoint(
        text, "the path has " + std::to_string(path.size()) + " bytes, and unix(7) allows at most " + std::to_string(kPathMax));
  if (!abstract && path.front() != '/') return bad_endpoint(text, "the path must be absolute, or an abstract @NAME");
  Endpoint endpoint;
  endpoint.kind_ = Kind::unix_socket;
  auto* address = as_unix(endpoint.address_);
  address->sun_family = AF_UNIX;
  std::memcpy(address->sun_path, path.data(), path.size());
  if (abstract) address->sun_path[0] = '\0';
  endpoint.length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
  return endpoint;
}

Result<Endpoint> Endpoint::parse_inherited(std::string_view text, std::string_view name) noexcept {
  if (name.empty()) return bad_endpoint(text, "it has neither number nor name");
  if (name.size() > kPathMax) return bad_endpoint(text, "the name is too long (at most " + std::to_string(kPathMax) + " bytes)");
  const bool number = std::isdigit(static_cast<unsigned char>(name.front())) != 0;
  int fd = 0;
  const auto [end, status] = std::from_chars(name.data(), name.data() + name.size(), fd);
  if (number && (status != std::errc{} || end != name.data() + name.size()))
    return bad_endpoint(text, "the number must be that of a descriptor");
  // FileDescriptorName= of systemd.socket(5): no control character, no colon.
  const bool bad = std::any_of(name.begin(), name.end(), [](unsigned char c) { return c <= ' ' || c >= 127 || c == ':'; });
  if (bad || name.front() == '-' || name.front() == '+')
    return bad_endpoint(text, "a name holds printable characters but ':' and ' '");
  Endpoint endpoint;
  endpoint.kind_ = Kind::inherited;
  const auto canonical = number ? std::to_string(fd) : std::string(name);
  std::memcpy(as_unix(endpoint.address_)->sun_path, canonical.data(), canonical.size());
  return endpoint;
}

Result<Endpoint> Endpoint::from_sockaddr(const sockaddr* address, socklen_t length, int socket_type) noexcept {
  if (length < offsetof(sockaddr_un, sun_path)) return Error{EAFNOSUPPORT, "socket address"};
  const bool v4 = address->sa_family == AF_INET && length >= sizeof(sockaddr_in);
  const bool v6 = address->sa_family == AF_INET6 && length >= sizeof(sockaddr_in6);
  const bool local = address->sa_family == AF_UNIX && length <= sizeof(sockaddr_un);
  if (!v4 && !v6 && !local) return Error{EAFNOSUPPORT, "socket address"};
  Endpoint endpoint;
  endpoint.kind_ = local ? Kind::unix_socket : socket_type == SOCK_DGRAM ? Kind::udp : Kind::tcp;
  endpoint.length_ = v4 ? sizeof(sockaddr_in) : v6 ? sizeof(sockaddr_in6) : length;
  std::memcpy(&endpoint.address_, address, endpoint.length_);
  return endpoint;
}

std::string Endpoint::name() const {
  const auto* local = as_unix(address_);
  if (kind_ == Kind::inherited) return {local->sun_path, ::strnlen(local->sun_path, kPathMax)};
  if (kind_ != Kind::unix_socket || length_ <= offsetof(sockaddr_un, sun_path)) return {};
  const size_t size = length_ - offsetof(sockaddr_un, sun_path);
  if (local->sun_path[0] == '\0') return "@" + std::string(local->sun_path + 1, size - 1);
  return {local->sun_path, ::strnlen(local->sun_path, size)};
}

std::string Endpoint::to_string() const {
  switch (kind_) {
    case Kind::none:
      return "(none)";
    case Kind::unix_socket:
      return std::string(kUnix) + name();
    case Kind::inherited:
      return std::string(kInherited) + name();
    case Kind::tcp:
    case Kind::udp:
      break;
  }
  char name[INET6_ADDRSTRLEN] = {};
  const bool v6 = family() == AF_INET6;
  const void* raw =
      v6 ? static_cast<const void*>(&as_v6(address_)->sin6_addr) : static_cast<const void*>(&as_v4(address_)->sin_addr);
  ::inet_ntop(family(), raw, name, sizeof name);
  const std::string host = v6 ? "[" + std::string(name) + "]" : name;
  return std::string(kind_ == Kind::udp ? kUdp : kTcp) + host + ":" + std::to_string(port());
}

in_port_t Endpoint::port() const noexcept {
  if (kind_ != Kind::tcp && kind_ != Kind::udp) return 0;
  return ntohs(family() == AF_INET6 ? as_v6(address_)->sin6_port : as_v4(address_)->sin_port);
}

bool Endpoint::operator==(const Endpoint& other) const noexcept {
  if (kind_ != other.kind_ || family() != other.family() || port() != other.port()) return false;
  if (kind_ == Kind::none) return true;
  if (kind_ == Kind::unix_socket || kind_ == Kind::inherited)
    return std::memcmp(as_unix(address_)->sun_path, as_unix(other.address_)->sun_path, sizeof(sockaddr_un::sun_path)) == 0;
  if (family() == AF_INET) return as_v4(address_)->sin_addr.s_addr == as_v4(other.address_)->sin_addr.s_addr;
  const auto* mine = as_v6(address_);
  const auto* theirs = as_v6(other.address_);
  return mine->sin6_scope_id == theirs->sin6_scope_id &&
         std::memcmp(&mine->sin6_addr, &theirs->sin6_addr, sizeof mine->sin6_addr) == 0;
}

}  // namespace lb
