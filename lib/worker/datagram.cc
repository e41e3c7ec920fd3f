// SPDX-License-Identifier: MIT
// A worker's end of datagrams: the socket of its slot, or the one that all workers share and wait on in turn (shared_acceptor
// says how), and the queues of slots that have no worker. Nothing is taken from a sibling that is alive: its flows are its own.
#include "worker/datagram_impl.hh"

#include <sys/epoll.h>

#include <algorithm>

#include "sys/datagram.hh"
#include "sys/error.hh"
#include "wire/listen_query.hh"

namespace lb {
namespace {

constexpr uint64_t kDatagrams = 0;
constexpr uint64_t kChannelEvents = 1;
constexpr uint32_t kTurnsMax = 64;  // datagrams without a look at what the primary says

Result<void> add(int epoll_fd, uint64_t data, int fd) noexcept {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLEXCLUSIVE;
  event.data.u64 = data;
  if (::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) return last_error("epoll_ctl");
  return {};
}

}  // namespace

Result<void> DatagramSocket::Impl::open() noexcept {
  waiting_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  if (!waiting_) return last_error("epoll_create1");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kChannelEvents;
  if (::epoll_ctl(waiting_.get(), EPOLL_CTL_ADD, worker_.fd(), &event) != 0) return last_error("epoll_ctl");
  return {};
}

/// From our socket and the orphans' in turn, so that none waits for another to be empty.
Result<std::optional<Datagram>> DatagramSocket::Impl::take(std::span<std::byte> buffer) noexcept {
  worker_.place().beat();
  const size_t sockets = orphans_.size() + 1;
  ++turn_;
  for (size_t i = 0; i < sockets; ++i) {
    const size_t at = (turn_ + i) % sockets;
    auto taken = receive_datagram(at == 0 ? socket_.get() : orphans_[at - 1].socket.get(), buffer, address_);
    if (!taken) return taken;
    if (!*taken) continue;
    auto& accepted = atomic(worker_.place().page().cells[cell_].accepted);
    accepted.store(accepted.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    served_ = true;
    return taken;
  }
  return std::optional<Datagram>();
}

/// Draining, and the queue is others' to empty: not before one last look, since a wake-up for a datagram may have reached us together
/// with the word to drain, and nobody else is woken for it.
bool DatagramSocket::Impl::may_go() noexcept {
  if ((own_ && !worker_.to_others()) || worker_.all_leave()) return false;
  return std::exchange(took_last_, true);
}

std::optional<Datagram> DatagramSocket::Impl::receive(std::span<std::byte> buffer) noexcept {
  busy_.reset();
  if (!joined_ && !closed_) {
    if (auto joined = join(waiting_.get(), kDatagrams); !joined) {
      error_ = joined.error();
      return std::nullopt;
    }
    joined_ = true;
  }
  while (!closed_) {
    if (turn_ % kTurnsMax == kTurnsMax - 1) (void)worker_.dispatch();  // it may never come to wait
    const bool draining = worker_.draining();
    if (draining && may_go()) break;
    auto taken = take(buffer);
    if (!taken) {
      error_ = taken.error();
      return std::nullopt;
    }
    if (*taken) {
      busy_ = charge();
      return *taken;
    }
    if (draining) break;  // it was draining before we looked, so nothing more comes
    rest();
    wait();
  }
  drained_ = true;
  return std::nullopt;
}

void DatagramSocket::Impl::wait() noexcept {
  epoll_event events[2];
  const int ready = ::epoll_wait(waiting_.get(), events, 2, -1);
  for (int i = 0; i < ready; ++i)
    if (events[i].data.u64 == kChannelEvents) {
      (void)worker_.dispatch();
      return;
    }
}

Result<std::optional<Datagram>> DatagramSocket::Impl::try_receive(std::span<std::byte> buffer) noexcept {
  if (closed_) return std::optional<Datagram>();
  const bool draining = worker_.draining();
  if (draining && may_go()) {
    drained_ = true;
    return std::optional<Datagram>();
  }
  auto taken = take(buffer);
  if (taken && !*taken) {
    drained_ = draining;
    rest();
  }
  return taken;
}

Result<void> DatagramSocket::Impl::send(const Endpoint& to, std::span<const std::byte> bytes, const Endpoint* from) noexcept {
  if (closed_) return Error{EBADF, "send: the datagram socket is closed"};
  return send_datagram(socket_.get(), to, bytes, is_wildcard(address_) ? from : nullptr);
}

Result<void> DatagramSocket::Impl::watch(int epoll_fd, uint64_t data) noexcept {
  if (closed_) return Error{EBADF, "watch: the datagram socket is closed"};
  return join(epoll_fd, data);
}

Result<void> DatagramSocket::Impl::join(int epoll_fd, uint64_t data) noexcept {
  if (auto added = add(epoll_fd, data, socket_.get()); !added) return added;
  for (const Orphan& orphan : orphans_) (void)add(epoll_fd, data, orphan.socket.get());
  lines_.push_back({epoll_fd, data});
  return {};
}

/// To the end of the line of those who wait on the shared socket. Only who has served since goes: waking for nothing costs no turn.
void DatagramSocket::Impl::rest() noexcept {
  if (own_ || !std::exchange(served_, false)) return;
  for (const Line& line : lines_) {
    ::epoll_ctl(line.epoll_fd, EPOLL_CTL_DEL, socket_.get(), nullptr);
    (void)add(line.epoll_fd, line.data, socket_.get());
  }
}

void DatagramSocket::Impl::leave_lines(int fd) noexcept {
  for (const Line& line : lines_) ::epoll_ctl(line.epoll_fd, EPOLL_CTL_DEL, fd, nullptr);
}

LoadToken DatagramSocket::Impl::charge() noexcept {
  auto& in_flight = atomic(worker_.place().page().in_flight);
  in_flight.fetch_add(1, std::memory_order_relaxed);
  return LoadToken(&in_flight);
}

void DatagramSocket::Impl::told(const Message& message, Packet& packet) noexcept {
  const uint32_t slot = message.value[0];
  const auto known = std::find_if(orphans_.begin(), orphans_.end(), [&](const Orphan& orphan) { return orphan.slot == slot; });
  if (message.act == Act::disown && known != orphans_.end()) {
    leave_lines(known->socket.get());
    std::iter_swap(known, orphans_.end() - 1);
    orphans_.pop_back();
  }
  if (message.act != Act::adopt || known != orphans_.end()) return;
  if (packet.fd_count != 1) return;  // our descriptor table is full: somebody else will be asked
  for (const Line& line : lines_)
    if (!add(line.epoll_fd, line.data, packet.fds[0].get())) return leave_lines(packet.fds[0].get());  // no memory: the same
  orphans_.push_back({slot, std::move(packet.fds[0])});
}

/// A shared socket, and the orphans' queues, are the business of those who stay.
void DatagramSocket::Impl::retire() noexcept {
  if (worker_.all_leave()) return;
  for (const Orphan& orphan : orphans_) leave_lines(orphan.socket.get());
  orphans_.clear();
  if (own_ && !worker_.to_others()) return;
  leave_lines(socket_.get());
  lines_.clear();
}

void DatagramSocket::Impl::close() noexcept {
  if (closed_) return;
  closed_ = true;
  busy_.reset();
  leave_lines(socket_.get());
  for (const Orphan& orphan : orphans_) leave_lines(orphan.socket.get());
  orphans_.clear();
  socket_.reset();
  worker_.forget(this, cell_, key_, index_);
}

/// The same question as for a listener, and another answer.
Result<DatagramSocket> Worker::Impl::bind(const Endpoint& endpoint, DatagramOptions options) noexcept try {
  const std::string text = endpoint.to_string();
  if (endpoint.kind() != Endpoint::Kind::udp)
    return error_naming(EPROTOTYPE, "bind " + text + ": not datagrams (allowed: udp://ADDRESS:PORT; for connections call listen)");
  if (options.receive_buffer < 0)
    return error_naming(EINVAL, "bind " + text + ": DatagramOptions::receive_buffer is negative (allowed: 0 and up)");
  const std::string key = text + (options.v6only ? " v6only" : "");
  auto& used = indexes_[key];
  ListenQuery query{endpoint, 0, {}, {}};
  query.options.v6only = options.v6only;
  query.options.receive_buffer = static_cast<unsigned>(options.receive_buffer);
  while (used.count(query.index) != 0) ++query.index;
  Message question;
  question.act = Act::query_listener;
  if (auto packed = query.pack(question); !packed) return packed.error();
  auto answer = ask(question);
  if (!answer) return answer.error();
  if (answer->error != 0) return error_naming(answer->error, answer->get_text());
  auto address = Endpoint::parse(answer->get_text());
  const bool sound = answer->act == Act::listener && answer->endpoint < LB_MAX_ENDPOINTS && address &&
                     static_cast<Arrival>(answer->value[0]) == Arrival::datagram_socket;
  if (packet_.fds_lost || !sound || packet_.fd_count != 1) {
    for (auto& fd : packet_.fds) fd.reset();
    (void)send(Act::close, answer->endpoint);
    return packet_.fds_lost ? error_naming(EMFILE, "bind " + text + ": no descriptors left") : Error{EPROTO, "bind: one socket"};
  }
  auto impl = std::make_unique<DatagramSocket::Impl>(*this, std::move(packet_.fds[0]), answer->value[1] != 0, *address,
                                                     answer->endpoint, key, query.index);
  used.insert(query.index);
  listeners_[answer->endpoint] = impl.get();
  if (auto opened = impl->open(); !opened) return opened.error();
  publish_cpu();
  if (auto sent = send(Act::listening, answer->endpoint); !sent) return sent.error();
  return DatagramSocket(std::move(impl));
} catch (...) {
  return Error{ENOMEM, "bind"};
}

Result<DatagramSocket> Worker::bind(std::string_view endpoint, DatagramOptions options) noexcept {
  auto parsed = Endpoint::parse(endpoint);
  if (!parsed) return parsed.error();
  return impl_->bind(*parsed, options);
}
Result<DatagramSocket> Worker::bind(const Endpoint& endpoint, DatagramOptions options) noexcept {
  return impl_->bind(endpoint, options);
}

DatagramSocket::DatagramSocket(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
DatagramSocket::DatagramSocket(DatagramSocket&&) noexcept = default;
DatagramSocket& DatagramSocket::operator=(DatagramSocket&&) noexcept = default;
DatagramSocket::~DatagramSocket() = default;

std::optional<Datagram> DatagramSocket::receive(std::span<std::byte> buffer) noexcept { return impl_->receive(buffer); }
Result<std::optional<Datagram>> DatagramSocket::try_receive(std::span<std::byte> buffer) noexcept {
  return impl_->try_receive(buffer);
}
Result<void> DatagramSocket::reply(const Datagram& question, std::span<const std::byte> bytes) noexcept {
  return impl_->send(question.from, bytes, &question.to);
}
Result<void> DatagramSocket::send(const Endpoint& to, std::span<const std::byte> bytes) noexcept {
  return impl_->send(to, bytes, nullptr);
}
Result<void> DatagramSocket::watch(int epoll_fd, uint64_t data) noexcept { return impl_->watch(epoll_fd, data); }
int DatagramSocket::fd() const noexcept { return impl_->fd(); }
LoadToken DatagramSocket::charge() noexcept { return impl_->charge(); }
const Endpoint& DatagramSocket::address() const noexcept { return impl_->address(); }
bool DatagramSocket::drained() const noexcept { return impl_->drained(); }
Error DatagramSocket::error() const noexcept { return impl_->error(); }
void DatagramSocket::close() noexcept { impl_->close(); }

}  // namespace lb
