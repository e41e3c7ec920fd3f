// SPDX-License-Identifier: MIT
#include "client.hh"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <lb/endpoint.hh>
#include <lb/unique_fd.hh>
#include <nlohmann/json.hpp>
#include <thread>

namespace lbctl {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPause = std::chrono::milliseconds(20);
constexpr size_t kAnswerMax = 64 << 20;  // several times what the largest cluster says

std::string why_not(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
      return fmt::format("there is no socket {}: does the server run, and was it started with LB_ADMIN_SOCKET={}?", path, path);
    case ECONNREFUSED:
      return fmt::format("nobody listens at {}: the server that made it is gone", path);
    case EACCES:
      return fmt::format("no permission for {}: it is for the server's user and root alone", path);
    case EAGAIN:
      return fmt::format("the primary behind {} lets nobody in: it is stopped, or very busy", path);
    default:
      return fmt::format("{}: {}", path, std::strerror(error));
  }
}

timeval as_timeval(std::chrono::milliseconds time) {
  return {time.count() / 1000, static_cast<suseconds_t>(time.count() % 1000 * 1000)};
}

}  // namespace

Failure Primary::no_primary() const { return {kUnreachable, fmt::format("what listens at {} is no primary of liblb", path_)}; }

std::string Primary::exchange(const std::string& line) const {
  const auto endpoint = lb::Endpoint::parse("unix:" + path_);
  if (!endpoint) throw Failure(kWrongUse, endpoint.error().op);
  const lb::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto patience = as_timeval(timeout_);  // for connect(2) too, while the socket's queue is full
  if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0)
    throw Failure(kUnreachable, std::strerror(errno));
  const auto until = Clock::now() + timeout_;
  if (::connect(fd.get(), endpoint->address(), endpoint->length()) != 0) throw Failure(kUnreachable, why_not(path_, errno));
  (void)!::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL);  // a primary that hangs up is seen below

  std::string answer;
  std::array<char, 65536> buffer{};
  while (!answer.ends_with('\n')) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
    pollfd readable{.fd = fd.get(), .events = POLLIN, .revents = 0};
    if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) == 0)
      throw Failure(kUnreachable, fmt::format("the primary behind {} does not answer within {} ms: it is stopped, or very busy",
                                              path_, timeout_.count()));
    const ssize_t got = ::recv(fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got > 0) answer.append(buffer.data(), static_cast<size_t>(got));
    if (answer.size() > kAnswerMax) throw no_primary();
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
      throw Failure(kUnreachable,
                    fmt::format("the primary behind {} hung up{}", path_,
                                answer.empty() ? ": it answers its own user and root alone"
                                               : " in the middle of its answer: it has ended, or was not read for too long"));
  }
  return answer;
}

nlohmann::json Primary::ask_patiently(const std::string& request) const {
  for (const auto until = Clock::now() + timeout_;; std::this_thread::sleep_for(kPause)) try {
      return ask(request);
    } catch (const Failure& failure) {
      if (failure.code != kUnreachable || Clock::now() >= until) throw;
    }
}

nlohmann::json Primary::ask(const std::string& request) const {
  const auto answer = nlohmann::json::parse(exchange("lb/1 " + request + "\n"), nullptr, false);
  if (!answer.is_object() || !answer.contains("ok")) throw no_primary();
  if (answer["ok"] != true) throw Failure(kRefused, answer.value("error", "the primary refused and did not say why"));
  return answer;
}

}  // namespace lbctl
