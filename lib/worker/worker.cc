// SPDX-License-Identifier: MIT
#include <lb/worker.hh>

#include <poll.h>
#include <sys/epoll.h>

#include "sys/error.hh"
#include "sys/process.hh"
#include "worker/listener_impl.hh"
#include "worker/worker_impl.hh"

namespace lb {
namespace {

constexpr uint64_t kDispatchPause_ns = 20'000'000;

}  // namespace

Result<std::unique_ptr<Worker::Impl>> Worker::Impl::start(uint32_t id, UniqueFd channel, UniqueFd stop) noexcept {
  std::unique_ptr<Impl> worker(new Impl(id, std::move(channel), std::move(stop)));
  if (auto opened = worker->open(); !opened) return opened.error();
  return worker;
}

Result<void> Worker::Impl::open() noexcept {
  events_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  if (!events_) return last_error("epoll_create1");
  for (const int fd : {channel_.fd(), stop_.get()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (::epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return last_error("epoll_ctl");
  }
  Message welcome;
  for (;;) {
    auto received = receive(welcome);
    if (!received) return received.error();
    if (*received) break;
    if (!connected_) return Error{EPIPE, "welcome: the primary is gone"};
    if (auto waited = wait_for_primary(); !waited) return waited;
  }
  if (packet_.fds_lost) return Error{EMFILE, "welcome: no descriptors left"};
  if (welcome.act != Act::welcome || packet_.fd_count != 3) return Error{EPROTO, "welcome"};
  auto board = Scoreboard::join(packet_.fds[0].get(), packet_.fds[1].get(), welcome.value[1], welcome.value[0]);
  if (!board) return board.error();
  place_.board = std::move(*board);
  place_.slot = welcome.value[0];
  place_.doorbell = std::move(packet_.fds[2]);
  for (auto& fd : packet_.fds) fd.reset();  // the maps' own descriptors close before user code runs
  place_.page().layout_version = LB_LAYOUT_VERSION;
  place_.page().worker_id = id_;
  return send(Act::online, 0);
}

/// One message; false when there is none. A primary that is gone or breaks the protocol means: drain.
Result<bool> Worker::Impl::receive(Message& message) noexcept {
  if (!connected_) return false;
  if (auto received = channel_.receive(message, packet_); !received) {
    primary_gone();
    return received.error();
  }
  if (packet_.state == Packet::State::closed) {
    connected_ = false;
    channel_.close();  // leaves the epoll instance too
    primary_gone();
  }
  return packet_.state == Packet::State::received;
}

void Worker::Impl::act_on(const Message& message) noexcept {
  switch (message.act) {
    case Act::drain:
      draining_ = true;
      all_leave_ |= message.value[0] != 0;
      for (const auto& [cell, listener] : listeners_) listener->retire();
      break;
    case Act::siblings:
    case Act::adopt:
    case Act::disown:
      if (const auto found = listeners_.find(message.endpoint); found != listeners_.end()) found->second->told(message, packet_);
      break;
    default:
      break;  // an answer that nobody waits for any more
  }
}

void Worker::Impl::dispatch_if_due() noexcept {
  if (now_ns() - dispatched_ns_ >= kDispatchPause_ns) (void)dispatch();
}

Result<void> Worker::Impl::dispatch() noexcept {
  dispatched_ns_ = now_ns();
  place_.beat();
  uint64_t count = 0;
  if (::read(stop_.get(), &count, sizeof count) > 0 && !draining_) {
    if (!send(Act::leaving, 0)) primary_gone();  // nobody to arrange it with: leave at once
  }
  Message message;
  for (;;) {
    auto received = receive(message);
    if (!received) return received.error();
    if (!*received) return {};
    act_on(message);
  }
}

Result<void> Worker::Impl::wait_for_primary() noexcept {
  pollfd waiting{channel_.fd(), POLLIN, 0};
  if (::poll(&waiting, 1, -1) < 0 && errno != EINTR) return last_error("poll");
  return {};
}

Result<void> Worker::Impl::send(Act act, uint32_t endpoint) noexcept {
  if (!connected_) return Error{EPIPE, "control channel"};
  Message message;
  message.act = act;
  message.endpoint = endpoint;
  return channel_.send(message);
}

/// Sends a question and waits for its answer; the answer's descriptors are in packet_. What else comes is acted on.
Result<Message> Worker::Impl::ask(Message& question) noexcept {
  if (!connected_) return Error{EPIPE, "the primary is gone"};
  if (auto sent = channel_.send(question); !sent) return sent.error();
  Message message;
  for (;;) {
    auto received = receive(message);
    if (!received) return received.error();
    if (*received && message.acknowledged == question.sequence) return message;
    if (*received)
      act_on(message);
    else if (!connected_)
      return Error{EPIPE, "the primary is gone"};
    else if (auto waited = wait_for_primary(); !waited)
      return waited.error();
  }
}

Result<Listener> Worker::Impl::listen(const Endpoint& endpoint, ListenOptions options) noexcept try {
  Message question;
  question.act = Act::query_listener;
  const std::string text = endpoint.to_string();
  const std::string key = text + (options.v6only ? " v6only" : "");
  auto& used = indexes_[key];
  uint32_t index = 0;
  while (used.count(index) != 0) ++index;
  question.set_text(text);
  question.value[0] = index;
  question.value[1] = static_cast<uint32_t>(options.backlog);
  question.value[2] = options.v6only ? 1 : 0;
  auto answer = ask(question);
  if (!answer) return answer.error();
  if (packet_.fds_lost) {
    (void)send(Act::close, answer->endpoint);
    return error_naming(EMFILE, "listen " + text + ": no descriptors left");
  }
  if (answer->error != 0) return error_naming(answer->error, answer->get_text());
  auto address = Endpoint::parse(answer->get_text());
  if (answer->act != Act::listener || answer->endpoint >= LB_MAX_ENDPOINTS || !address) return Error{EPROTO, "listener"};

  Result<std::unique_ptr<Acceptor>> acceptor = Error{EPROTO, "listener: arrival"};
  switch (static_cast<Arrival>(answer->value[0])) {
    case Arrival::shared_socket:
      acceptor = make_shared_acceptor(*answer, packet_, options.backlog);
      break;
    case Arrival::slot_socket:
      acceptor = make_slot_acceptor(place_, *answer, packet_);
      break;
    case Arrival::handoff:
      acceptor = make_handoff_acceptor(place_, *answer, packet_);
      break;
  }
  for (auto& fd : packet_.fds) fd.reset();
  if (!acceptor) {
    (void)send(Act::close, answer->endpoint);
    return acceptor.error();
  }
  auto impl = std::make_unique<Listener::Impl>(*this, std::move(*acceptor), *address, answer->endpoint, key, index);
  used.insert(index);
  listeners_[answer->endpoint] = impl.get();
  if (auto opened = impl->open(); !opened) return opened.error();
  if (auto sent = send(Act::listening, answer->endpoint); !sent) return sent.error();
  return Listener(std::move(impl));
} catch (...) {
  return Error{ENOMEM, "listen"};
}

void Worker::Impl::forget(Listener::Impl* listener, uint32_t cell, const std::string& key, uint32_t index) noexcept {
  if (const auto found = listeners_.find(cell); found != listeners_.end() && found->second == listener) listeners_.erase(found);
  indexes_[key].erase(index);
  (void)send(Act::close, cell);
}

void Worker::Impl::announce_exit() noexcept { (void)send(Act::exited_after_disconnect, 0); }

Worker::Worker(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Worker::Worker(Worker&&) noexcept = default;
Worker::~Worker() = default;

uint32_t Worker::id() const noexcept { return impl_->id(); }
Result<Listener> Worker::listen(std::string_view endpoint, ListenOptions options) noexcept {
  auto parsed = Endpoint::parse(endpoint);
  if (!parsed) return parsed.error();
  return impl_->listen(*parsed, options);
}
Result<Listener> Worker::listen(const Endpoint& endpoint, ListenOptions options) noexcept { return impl_->listen(endpoint, options); }
int Worker::fd() const noexcept { return impl_->fd(); }
Result<void> Worker::dispatch() noexcept { return impl_->dispatch(); }
bool Worker::draining() const noexcept { return impl_->draining(); }

}  // namespace lb
