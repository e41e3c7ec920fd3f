// SPDX-License-Identifier: MIT
#include <lb/endpoint.hh>

#include <arpa/inet.h>

#include <charconv>
#include <cstring>

#include "sys/error.hh"

namespace lb {
namespace {

constexpr std::string_view kScheme = "tcp://";

Error bad_endpoint(std::string_view text, std::string_view why) noexcept {
  try {
    return error_naming(EINVAL, "endpoint \"" + std::string(text) + "\": " + std::string(why) +
                                    " (allowed: tcp://ADDRESS:PORT, tcp://[IPV6]:PORT, tcp://*:PORT)");
  } catch (...) {
    return {EINVAL, "endpoint"};
  }
}

sockaddr_in* as_v4(sockaddr_storage& storage) { return reinterpret_cast<sockaddr_in*>(&storage); }
sockaddr_in6* as_v6(sockaddr_storage& storage) { return reinterpret_cast<sockaddr_in6*>(&storage); }

}  // namespace

Result<Endpoint> Endpoint::parse(std::string_view text) noexcept {
  if (!text.starts_with(kScheme)) return bad_endpoint(text, "it must begin with tcp://");
  const std::string_view rest = text.substr(kScheme.size());
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
  if (host.empty() || host.size() >= sizeof name || host.find('\0') != std::string_view::npos)
    return bad_endpoint(text, "the address must be numeric IPv4 or [IPv6]");
  std::memcpy(name, host.data(), host.size());

  Endpoint endpoint;
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

Result<Endpoint> Endpoint::from_sockaddr(const sockaddr* address, socklen_t length) noexcept {
  const bool v4 = address->sa_family == AF_INET && length >= sizeof(sockaddr_in);
  const bool v6 = address->sa_family == AF_INET6 && length >= sizeof(sockaddr_in6);
  if (!v4 && !v6) return Error{EAFNOSUPPORT, "socket address"};
  Endpoint endpoint;
  endpoint.length_ = v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  std::memcpy(&endpoint.address_, address, endpoint.length_);
  return endpoint;
}

std::string Endpoint::to_string() const {
  if (length_ == 0) return "(none)";
  char name[INET6_ADDRSTRLEN] = {};
  const bool v6 = family() == AF_INET6;
  const void* raw = v6 ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(&address_)->sin6_addr)
                       : static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(&address_)->sin_addr);
  ::inet_ntop(family(), raw, name, sizeof name);
  const std::string host = v6 ? "[" + std::string(name) + "]" : name;
  return std::string(kScheme) + host + ":" + std::to_string(port());
}

in_port_t Endpoint::port() const noexcept {
  if (length_ == 0) return 0;
  return ntohs(family() == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&address_)->sin6_port
                                    : reinterpret_cast<const sockaddr_in*>(&address_)->sin_port);
}

bool Endpoint::operator==(const Endpoint& other) const noexcept {
  if (length_ != other.length_ || family() != other.family() || port() != other.port()) return false;
  if (length_ == 0) return true;
  if (family() == AF_INET)
    return reinterpret_cast<const sockaddr_in*>(&address_)->sin_addr.s_addr ==
           reinterpret_cast<const sockaddr_in*>(&other.address_)->sin_addr.s_addr;
  const auto* mine = reinterpret_cast<const sockaddr_in6*>(&address_);
  const auto* theirs = reinterpret_cast<const sockaddr_in6*>(&other.address_);
  return mine->sin6_scope_id == theirs->sin6_scope_id &&
         std::memcmp(&mine->sin6_addr, &theirs->sin6_addr, sizeof mine->sin6_addr) == 0;
}

}  // namespace lb
