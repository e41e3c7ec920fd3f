// SPDX-License-Identifier: MIT
#include "backends/kinds.hh"

#include "sys/error.hh"

namespace lb {
namespace {

/// Empty: it can have a reuseport group.
std::string_view no_group(Endpoint::Kind kind) noexcept {
  switch (kind) {
    case Endpoint::Kind::unix_socket:
      return "a UNIX socket cannot share its address (SO_REUSEPORT is for IP)";
    case Endpoint::Kind::inherited:
      return "an inherited socket is bound already, by another, and there is one of it";
    default:
      return {};
  }
}

}  // namespace

Result<void> settle_policy(ListenRequest& request, bool strict) noexcept try {
  const bool automatic = request.policy.backend == Backend::automatic;
  if (!automatic && request.policy.backend != Backend::reuseport) return {};
  const auto why = no_group(request.endpoint.kind());
  if (why.empty()) return {};
  if (strict && !automatic)
    return error_naming(EOPNOTSUPP, "LB_STRICT: reuseport on " + request.endpoint.to_string() + " (" + std::string(why) + ")");
  request.policy = {Backend::shared, Selector::standard};
  request.fallback = (automatic ? "auto: " : "no reuseport: ") + std::string(why);
  return {};
} catch (...) {
  return Error{ENOMEM, "listen"};
}

}  // namespace lb
