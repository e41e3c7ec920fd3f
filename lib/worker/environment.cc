// SPDX-License-Identifier: MIT
// An exec'd worker finds its cluster.
#include "worker/environment.hh"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>

#include <lb/worker.hh>

#include "sys/error.hh"
#include "worker/signals.hh"
#include "worker/worker_impl.hh"

namespace lb {
namespace {

std::atomic<bool> g_is_worker{false};

/// The variable's text; it is then no longer there for programs that this one starts.
std::optional<std::string> take_variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  std::string taken = text;
  ::unsetenv(name);
  return taken;
}

template <class T>
std::optional<T> parse_number(const std::string& text) noexcept {
  T number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Result<UniqueFd> own_channel(const std::string& text) {
  const auto refuse = [&](int code, const char* why) {
    return error_naming(code, std::string(kChannelVariable) + " \"" + text + "\": " + why);
  };
  const auto fd = parse_number<int>(text);
  if (!fd || *fd < 0) return refuse(EINVAL, "no descriptor's number");
  int type = 0;
  int domain = 0;
  socklen_t length = sizeof type;
  if (::getsockopt(*fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0) return refuse(errno, "no control channel");
  length = sizeof domain;
  if (::getsockopt(*fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) return refuse(errno, "no control channel");
  if (type != SOCK_SEQPACKET || domain != AF_UNIX) return refuse(EPROTOTYPE, "no control channel");
  UniqueFd channel(*fd);
  if (::fcntl(channel.get(), F_SETFD, FD_CLOEXEC) != 0) return last_error("F_SETFD");
  return channel;
}

}  // namespace

void this_process_is_a_worker() noexcept { g_is_worker = true; }

bool is_worker() noexcept { return g_is_worker || std::getenv(kWorkerIdVariable) != nullptr; }

Result<Worker> Worker::from_environment() noexcept try {
  const auto id_text = take_variable(kWorkerIdVariable);
  const auto channel_text = take_variable(kChannelVariable);
  if (!id_text && !channel_text)
    return Error{ENOENT, "Worker::from_environment: LB_WORKER_ID and LB_CHANNEL_FD are not set: no cluster started this process"};
  if (!id_text || !channel_text)
    return error_naming(EINVAL, std::string("Worker::from_environment: ") + (id_text ? kChannelVariable : kWorkerIdVariable) +
                                    " is not set, but its companion is");
  const auto id = parse_number<uint32_t>(*id_text);
  if (!id || *id == 0) return error_naming(EINVAL, std::string(kWorkerIdVariable) + " \"" + *id_text + "\" (allowed: 1 and up)");
  auto channel = own_channel(*channel_text);
  if (!channel) return channel.error();
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return last_error("eventfd");
  set_worker_signals(stop.get());
  auto impl = Impl::start(*id, std::move(*channel), std::move(stop));
  if (!impl) {
    forget_stop_fd();
    return impl.error();
  }
  this_process_is_a_worker();
  (*impl)->at_end([inside = impl->get(), pid = ::getpid()] {
    if (::getpid() != pid) return;  // a child that the worker forked: not its to say
    inside->announce_exit();
    forget_stop_fd();
  });
  return Worker(std::move(*impl));
} catch (...) {
  return Error{ENOMEM, "Worker::from_environment"};
}

}  // namespace lb
