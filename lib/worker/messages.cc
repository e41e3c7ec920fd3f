// SPDX-License-Identifier: MIT
// The user's messages, at a worker's end.
#include <sys/epoll.h>

#include "sys/error.hh"
#include "worker/worker_impl.hh"

namespace lb {
namespace {

constexpr int kMessagesInDispatchMax = 64;  // in one dispatch, so that connections have their turn too

}  // namespace

Result<void> Worker::Impl::send(std::span<const std::byte> bytes, int fd) noexcept {
  if (!heard_) return Error{EOPNOTSUPP, "send: the primary has no Options::on_message"};
  if (!messages_) return Error{EPIPE, "send: the other side is gone"};
  return send_user_message(messages_.get(), bytes, fd);
}

/// While nobody listens, the channel is not waited on: what comes stays in it and wakes nobody.
Result<void> Worker::Impl::on_message(std::function<void(UserMessage&)> callback) noexcept {
  const bool wait = static_cast<bool>(callback);
  on_message_ = std::move(callback);
  replaced_ = true;
  if (wait == awaited_ || !messages_) return {};
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = messages_.get();
  if (::epoll_ctl(events_.get(), wait ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, messages_.get(), &event) != 0)
    return last_error("epoll_ctl");
  awaited_ = wait;
  return {};
}

Result<void> Worker::Impl::receive_messages() noexcept {
  if (delivering_) return {};  // a callback that dispatches: its message's bytes are still in use
  for (int i = 0; i < kMessagesInDispatchMax && on_message_ && messages_; ++i) {
    delivering_ = true;
    const auto got = inbox_.receive(messages_.get(), [this](UserMessage& message) {
      replaced_ = false;
      auto callback = std::exchange(on_message_, {});  // it may replace itself
      callback(message);
      if (!replaced_) on_message_ = std::move(callback);
    });
    delivering_ = false;
    if (got && *got == UserInbox::State::nothing) return {};
    if (got && *got == UserInbox::State::received) continue;
    messages_.reset();  // leaves the epoll instance too
    if (!got) return got.error();
  }
  return {};
}

}  // namespace lb
