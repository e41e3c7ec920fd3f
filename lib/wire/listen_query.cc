// SPDX-License-Identifier: MIT
// values: index; backlog; flags and permissions; defer_accept_s and fast_open; receive_buffer; send_buffer.
// text: endpoint, device, bound address if it is not the endpoint, with a zero byte between them, which none of them can hold.
#include "wire/listen_query.hh"

#include <algorithm>

#include "sys/error.hh"
#include "sys/socket_options.hh"

namespace lb {
namespace {

constexpr uint32_t kV6only = 1;
constexpr uint32_t kExclusive = 2;

/// The text up to the next zero byte, which is taken off.
std::string_view next_part(std::string_view& text) {
  const auto part = text.substr(0, text.find('\0'));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

}  // namespace

Result<void> ListenQuery::pack(Message& message) const noexcept try {
  message.value[0] = index;
  message.value[1] = static_cast<uint32_t>(options.backlog);
  const bool v6only = options.v6only && endpoint.family() == AF_INET6;  // it says nothing of other endpoints
  message.value[2] = (v6only ? kV6only : 0) | (options.exclusive ? kExclusive : 0) | (options.permissions << 16);
  message.value[3] = options.defer_accept_s | (options.fast_open << 16);
  message.value[4] = options.receive_buffer;
  message.value[5] = options.send_buffer;
  std::string text = endpoint.to_string() + '\0' + options.device + '\0';
  if (bound.kind() != Endpoint::Kind::none && !(bound == endpoint)) text += bound.to_string();
  if (text.size() > Message::kTextMax) return error_naming(EMSGSIZE, "listen " + endpoint.to_string());
  message.set_text(text);
  return {};
} catch (...) {
  return Error{ENOMEM, "listen"};
}

Result<ListenQuery> ListenQuery::unpack(const Message& message) noexcept try {
  ListenQuery query;
  std::string_view text = message.get_text();
  auto endpoint = Endpoint::parse(next_part(text));
  if (!endpoint) return endpoint.error();
  query.endpoint = *endpoint;
  query.index = message.value[0];
  query.options.backlog = static_cast<int>(message.value[1]);
  query.options.v6only = (message.value[2] & kV6only) != 0;
  query.options.exclusive = (message.value[2] & kExclusive) != 0;
  query.options.permissions = message.value[2] >> 16;
  query.options.defer_accept_s = message.value[3] & 0xffff;
  query.options.fast_open = message.value[3] >> 16;
  query.options.receive_buffer = message.value[4];
  query.options.send_buffer = message.value[5];
  query.options.device = next_part(text);
  if (auto good = check_options(query.options, query.endpoint); !good) return good.error();
  if (!query.options.exclusive) return query;
  query.bound = query.endpoint;
  if (text.empty()) return query;
  auto bound = Endpoint::parse(text);
  if (!bound) return bound.error();
  query.bound = *bound;
  return query;
} catch (...) {
  return Error{ENOMEM, "listen"};
}

}  // namespace lb
