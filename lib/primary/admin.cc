// SPDX-License-Identifier: MIT
// What operators may ask of the primary through its admin socket. Every answer is an object: "lb", the protocol's version, and "ok";
// where that is false, "error" says why.
#include <unistd.h>

#include <cstdlib>

#include <lb/version.hh>

#include "primary/admin_request.hh"
#include "primary/cluster_impl.hh"
#include "primary/launch.hh"
#include "primary/status_json.hh"
#include "sys/error.hh"
#include "sys/process.hh"

namespace lb {
namespace {

constexpr uint32_t kVersion = 1;

JsonWriter begin_answer(bool ok) {
  JsonWriter json;
  json.begin_object().member("lb", kVersion).member("ok", ok);
  return json;
}

std::string refusal(std::string_view why) { return begin_answer(false).member("error", why).end_object().take(); }
std::string done_or_refused(const Result<void>& done) {
  return done ? begin_answer(true).end_object().take() : refusal(done.error().message());
}

std::string refuse_worker(uint32_t id) { return refusal("there is no worker " + std::to_string(id)); }

}  // namespace

Result<void> Cluster::Impl::open_admin_socket() noexcept {
  const char* asked = ::getenv(kAdminVariable);
  const std::string path = asked != nullptr ? asked : options_.admin_socket;
  if (path.empty()) return {};
  auto socket = AdminSocket::open(*loop_, path, [this](std::string_view request) { return administer(request); });
  if (!socket && socket.error().code == EADDRINUSE && asked != nullptr)
    return error_naming(EADDRINUSE,
                        socket.error().op + std::string(" (from LB_ADMIN_SOCKET: perhaps inherited from the server that "
                                                        "has it; unset it, or name another path)"));
  if (!socket) return socket.error();
  admin_ = std::move(*socket);
  return {};
}

std::string Cluster::Impl::administer(std::string_view line) {
  const auto parsed = parse_admin_request(line);
  if (const auto* wrong = std::get_if<std::string>(&parsed)) return refusal(*wrong);
  const auto& request = std::get<AdminRequest>(parsed);
  switch (request.verb) {
    case AdminRequest::Verb::status:
      return tell_status();
    case AdminRequest::Verb::drain:
      return admit_drain(request);
    case AdminRequest::Verb::roll:
      return admit_roll(request);
    case AdminRequest::Verb::scale:
      return admit_scale(request);
    case AdminRequest::Verb::weight:
      if (find(request.worker) == nullptr) return refuse_worker(request.worker);
      return done_or_refused(set_weight(request.worker, request.weight));
    case AdminRequest::Verb::upgrade:
      return admit_upgrade();
    case AdminRequest::Verb::policy:
      return admit_policy(request);
  }
  return refusal("unknown request");
}

std::string Cluster::Impl::admit_drain(const AdminRequest& request) {
  if (find(request.worker) == nullptr) return refuse_worker(request.worker);
  return done_or_refused(drain(request.worker, request.deadline.value_or(options_.drain_deadline)));
}

/// What clients make up does not get into errors: their texts are kept (sys/error).
std::string Cluster::Impl::admit_scale(const AdminRequest& request) {
  const unsigned most = scoreboard_.slots() / 2;
  if (request.workers == 0 || request.workers > most)
    return refusal("scale to " + std::to_string(request.workers) + " workers (allowed: 1 to " + std::to_string(most) +
                   "; see Options::workers_max)");
  return done_or_refused(scale(request.workers));
}

/// The answer tells the new primary's pid, by which the status knows this upgrade.
std::string Cluster::Impl::admit_upgrade() {
  if (auto begun = upgrade({}); !begun) return refusal(begun.error().message());
  return begin_answer(true).member("pid", static_cast<uint64_t>(upgrade_.pid)).end_object().take();
}

/// The answer tells the generation by which this roll is known in the status; it begins later.
std::string Cluster::Impl::admit_roll(const AdminRequest& request) {
  RollOptions options = options_.roll;
  options.at_once = request.at_once.value_or(options.at_once);
  const uint32_t generation = generation_ + 1;
  if (auto asked = roll(std::move(options)); !asked) return refusal(asked.error().message());
  return begin_answer(true).member("generation", generation).end_object().take();
}

/// Text of a client's is compared with what is known, not parsed: the errors of parsing are kept for ever (sys/error).
std::string Cluster::Impl::admit_policy(const AdminRequest& request) {
  if ((", " + policy_names() + ",").find(", " + request.policy + ",") == std::string::npos)
    return refusal("unknown policy \"" + request.policy + "\"; one of: " + policy_names());
  std::optional<Endpoint> only;
  std::string others;
  if (!request.endpoint.empty()) {
    for (const auto& endpoint : listeners_->describe()) {
      others += (others.empty() ? "" : ", ") + endpoint.address.to_string();
      if (request.endpoint == endpoint.address.to_string() || request.endpoint == endpoint.asked.to_string())
        only = endpoint.address;
    }
    if (!only) return refusal("there is no endpoint \"" + request.endpoint + "\"; one of: " + others);
  }
  return done_or_refused(set_policy(Policy::parse(request.policy).value(), only ? &*only : nullptr));
}

std::string Cluster::Impl::tell_status() const {
  JsonWriter json = begin_answer(true);
  json.key("primary").begin_object();
  json.member("pid", static_cast<uint64_t>(::getpid())).member("version", LB_VERSION);
  json.member("now_ms", now_ns() / 1'000'000).member("state", phase_ == Phase::serving ? "serving" : "draining");
  json.end_object();
  write_status(json, status());
  return json.end_object().take();
}

}  // namespace lb
