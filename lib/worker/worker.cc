// SPDX-License-Identifier: MIT
#include <lb/worker.hh>

#include <poll.h>
#include <sys/epoll.h>

#include "sys/affinity.hh"
#include "sys/doorbell.hh"
#include "sys/error.hh"
#include "sys/process.hh"
#include "sys/socket_options.hh"
#include "wire/listen_query.hh"
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

Worker::Impl::~Impl() {
  if (farewell_) farewell_();
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
    if (!received && received.error().code == EPROTONOSUPPORT)
      return error_naming(EPROTONOSUPPORT, "welcome: the primary's liblb speaks version " + std::to_string(welcome.version) +
                                               " of the control protocol, this program's speaks " +
                                               std::to_string(Message::kVersion) + " (upgrade the primary, or start it anew)");
    if (!received) return received.error();
    if (*received) break;
    if (!connected_) return Error{EPIPE, "welcome: the primary is gone"};
    if (auto waited = wait_for_primary(); !waited) return waited;
  }
  if (packet_.fds_lost) return Error{EMFILE, "welcome: no descriptors left"};
  if (welcome.act != Act::welcome || packet_.fd_count != 4) return Error{EPROTO, "welcome"};
  auto board = Scoreboard::join(packet_.fds[0].get(), packet_.fds[1].get(), welcome.value[1], welcome.value[0]);
  if (!board) return board.error();
  place_.board = std::move(*board);
  place_.slot = welcome.value[0];
  place_.doorbell = std::move(packet_.fds[2]);
  messages_ = std::move(packet_.fds[3]);
  heard_ = welcome.value[2] != 0;
  outlive_max_ms_ = welcome.value[3];
  if (welcome.value[4] != 0) (void)pin_to(welcome.value[4] - 1);  // a CPU that has gone meanwhile is no reason not to serve
  for (auto& fd : packet_.fds) fd.reset();                        // the maps' own descriptors close before user code runs
  place_.page().layout_version = LB_LAYOUT_VERSION;
  place_.page().worker_id = id_;
  place_.beat();  // from now on its silence says something
  place_.page().doorbell = place_.doorbell.get();
  return send(Act::online, 0);
}

/// As it is now: the program may have pinned itself, or have been started so.
void Worker::Impl::publish_cpu() noexcept {
  const auto cpu = pinned_cpu();
  atomic(place_.page().cpu).store(cpu ? *cpu + 1 : 0, std::memory_order_relaxed);
}

/// One message; false when there is none. A primary that is gone or breaks the protocol means: drain.
Result<bool> Worker::Impl::receive(Message& message) noexcept {
  if (!connected_) return false;
  if (auto received = channel_.receive(message, packet_, payload_); !received) {
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

/// There is nobody any more to end a process that takes too long.
void Worker::Impl::primary_gone() noexcept {
  draining_ = all_leave_ = true;
  if (outlive_max_ms_ != 0 && !std::exchange(orphaned_, true)) end_this_process_in(outlive_max_ms_);
}

void Worker::Impl::act_on(const Message& message) noexcept {
  place_.beat();  // a nudge asks for no more
  switch (message.act) {
    case Act::drain:
      draining_ = true;
      all_leave_ |= message.value[0] != static_cast<uint32_t>(Leaving::alone);
      to_others_ |= message.value[0] == static_cast<uint32_t>(Leaving::to_others);
      for (const auto& [cell, listener] : listeners_) listener->retire();
      break;
    case Act::shed:
      shed_ = message.value[0];
      break;
    case Act::source:
      if (message.endpoint >= LB_MAX_ENDPOINTS) break;
      if (const auto found = listeners_.find(message.value[4]); found != listeners_.end())
        found->second->told(message, packet_);
      else
        let_go(message.endpoint);  // the listener has been closed
      for (auto& fd : packet_.fds) fd.reset();
      break;
    case Act::part:
    case Act::siblings:
    case Act::adopt:
    case Act::disown:
    case Act::nudge:
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
  if (::read(stop_.get(), &count, sizeof count) > 0) leave();
  Message message;
  for (;;) {
    auto received = receive(message);
    if (!received) return received.error();
    if (!*received) break;
    act_on(message);
  }
  if (const uint32_t surplus = std::exchange(shed_, 0); surplus != 0 && on_shed_ && !draining_) on_shed_(surplus);
  return receive_messages();
}

void Worker::Impl::leave() noexcept {
  if (!draining_ && !send(Act::leaving, 0)) primary_gone();  // nobody to arrange it with: leave at once
}

Result<void> Worker::Impl::wait_for_primary() noexcept {
  if (drive_) return drive_();
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

/// Sends a question and waits for its answer; the answer's descriptors are in packet_, its payload in payload_. What else comes is acted on.
Result<Message> Worker::Impl::ask(Message& question, std::string_view payload) noexcept {
  if (!connected_) return Error{EPIPE, "the primary is gone"};
  if (auto sent = channel_.send(question, {}, payload); !sent) {
    if (sent.error().code != EPIPE && sent.error().code != ECONNRESET) return sent.error();
    primary_gone();
    return Error{EPIPE, "the primary is gone"};
  }
  Message message;
  for (;;) {
    auto received = receive(message);
    if (!received) return received.error();
    if (*received && message.acknowledged == question.sequence) return message;
    if (*received) {
      act_on(message);
      if (draining_) Doorbell::ring(stop_.get());  // fd() is readable again: an event loop has yet to hear of it
    } else if (!connected_) {
      return Error{EPIPE, "the primary is gone"};
    } else if (auto waited = wait_for_primary(); !waited) {
      return waited.error();
    }
  }
}

Result<std::unique_ptr<Acceptor>> Worker::Impl::make_acceptor(const Message& answer, const ListenOptions& options,
                                                              OwnSocket own) noexcept {
  switch (static_cast<Arrival>(answer.value[0])) {
    case Arrival::shared_socket:
      return make_shared_acceptor(place_, answer, packet_, options.backlog);
    case Arrival::slot_socket:
      return make_slot_acceptor(place_, answer, packet_);
    case Arrival::handoff:
      return make_handoff_acceptor(place_, answer, packet_);
    case Arrival::own_socket:
      if (!own.fd) break;
      return make_own_acceptor(std::move(own), options.backlog);
    case Arrival::datagram_socket:
      break;
  }
  return Error{EPROTO, "listener: arrival"};
}

Result<Listener> Worker::Impl::listen(const Endpoint& endpoint, const ListenOptions& options) noexcept try {
  const std::string text = endpoint.to_string();
  if (endpoint.kind() == Endpoint::Kind::udp)
    return error_naming(EPROTOTYPE, "listen " + text + ": datagrams are not accepted (for udp:// call bind)");
  if (auto good = check_options(options, endpoint); !good) return good.error();
  const bool v6only = options.v6only && endpoint.family() == AF_INET6;
  const std::string key = text + (v6only ? " v6only" : "") + (options.exclusive ? " exclusive" : "");
  auto& used = indexes_[key];
  ListenQuery query{endpoint, 0, options, {}};
  while (used.count(query.index) != 0) ++query.index;
  OwnSocket own;
  if (options.exclusive) {
    auto opened = OwnSocket::open(endpoint, options);
    if (!opened) return opened.error();
    own = std::move(*opened);
    query.bound = own.address;
  }
  Message question;
  question.act = Act::query_listener;
  if (options.blob.size() > kBlobMax)
    return error_naming(EMSGSIZE, "listen " + text + ": ListenOptions::blob of " + std::to_string(options.blob.size()) +
                                      " bytes (allowed: 0 to " + std::to_string(kBlobMax) + ")");
  if (auto packed = query.pack(question); !packed) return packed.error();
  auto answer = ask(question, options.blob);
  if (!answer) return answer.error();
  if (packet_.fds_lost) {
    (void)send(Act::close, answer->endpoint);
    return error_naming(EMFILE, "listen " + text + ": no descriptors left");
  }
  if (answer->error != 0) return error_naming(answer->error, answer->get_text());
  auto address = Endpoint::parse(answer->get_text());
  if (answer->act != Act::listener || answer->endpoint >= LB_MAX_ENDPOINTS || !address) return Error{EPROTO, "listener"};
  auto acceptor = make_acceptor(*answer, options, std::move(own));
  for (auto& fd : packet_.fds) fd.reset();
  if (!acceptor) {
    (void)send(Act::close, answer->endpoint);
    return acceptor.error();
  }
  auto impl = std::make_unique<Listener::Impl>(*this, std::move(*acceptor), *address, answer->endpoint, key, query.index);
  impl->keep_blob({payload_.data(), answer->payload_length});
  used.insert(query.index);
  listeners_[answer->endpoint] = impl.get();
  if (auto opened = impl->open(); !opened) return opened.error();
  publish_cpu();
  if (auto sent = send(Act::listening, answer->endpoint); !sent) return sent.error();
  return Listener(std::move(impl));
} catch (...) {
  return Error{ENOMEM, "listen"};
}

void Worker::Impl::forget(Inlet* inlet, uint32_t cell, const std::string& key, uint32_t index) noexcept {
  if (const auto found = listeners_.find(cell); found != listeners_.end() && found->second == inlet) listeners_.erase(found);
  indexes_[key].erase(index);
  (void)send(Act::close, cell);
}

bool Worker::Impl::gained(Inlet* inlet, uint32_t cell) noexcept try {
  listeners_[cell] = inlet;
  return send(Act::listening, cell).ok();
} catch (...) {
  return false;
}

void Worker::Impl::let_go(uint32_t cell) noexcept {
  listeners_.erase(cell);
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
Result<Listener> Worker::listen(const Endpoint& endpoint, ListenOptions options) noexcept {
  return impl_->listen(endpoint, options);
}
int Worker::fd() const noexcept { return impl_->fd(); }
Result<void> Worker::dispatch() noexcept { return impl_->dispatch(); }
void Worker::report_load(uint32_t connections) noexcept {
  atomic(impl_->place().page().reported).store(connections, std::memory_order_relaxed);
}
void Worker::leave() noexcept { impl_->leave(); }
void Worker::on_shed(std::function<void(unsigned count)> callback) noexcept { impl_->on_shed(std::move(callback)); }
bool Worker::draining() const noexcept { return impl_->draining(); }
Result<void> Worker::send(std::span<const std::byte> bytes, int fd) noexcept { return impl_->send(bytes, fd); }
Result<void> Worker::on_message(std::function<void(UserMessage&)> callback) noexcept {
  return impl_->on_message(std::move(callback));
}

}  // namespace lb
