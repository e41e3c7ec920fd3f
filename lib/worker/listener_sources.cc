// SPDX-License-Identifier: MIT
// The ways for connections to arrive at a listener change with the policy, and its user need not notice: a new one joins every epoll
// instance that the listener is in; an old one is emptied, in a last look once the primary says that nothing more comes, and let go.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "sys/doorbell.hh"
#include "sys/error.hh"
#include "sys/socket.hh"
#include "worker/listener_impl.hh"

namespace lb {
namespace {

/// From a queue that others empty too, for it lives on: more than the wake-ups that one worker can have swallowed, but an end. Under a
/// load that never lets it be empty what waits elsewhere would wait for ever.
constexpr unsigned kLastTakes = 16;

Result<void> add_eventfd(int epoll_fd, uint64_t data, int fd) noexcept {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = data;
  if (::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) return last_error("epoll_ctl");
  return {};
}

}  // namespace

Result<void> Listener::Impl::join(int epoll_fd, uint64_t data) noexcept try {
  for (Source& source : sources_)
    if (auto joined = source.acceptor->join(epoll_fd, data); !joined) return joined;
  if (look_)
    if (auto added = add_eventfd(epoll_fd, data, look_.get()); !added) return added;
  lines_.push_back({epoll_fd, data});
  return {};
} catch (...) {
  return Error{ENOMEM, "watch"};
}

bool Listener::Impl::must_empty() const noexcept {
  return std::any_of(sources_.begin(), sources_.end(),
                     [this](const Source& source) { return source.acceptor->must_empty(worker_.all_leave()); });
}

bool Listener::Impl::settled() noexcept {
  bool all = true;
  for (Source& source : sources_) all &= source.acceptor->settled();
  return all;
}

/// The older ones first: they are to be empty soon.
Result<std::optional<Connection>> Listener::Impl::take_from_all(bool nonblocking) noexcept {
  for (size_t i = 0; i + 1 < sources_.size();) {
    auto taken = take_from(sources_[i], nonblocking);
    if (taken && *taken) {
      if (sources_[i].parting && --sources_[i].takes_max == 0) let_go(sources_[i]);
      return taken;
    }
    if (!taken && accept_verdict(taken.error().code) != AcceptVerdict::fatal) return taken;
    if (taken && !sources_[i].parting)
      ++i;
    else
      let_go(sources_[i]);  // empty, or the primary has shut its socket down
  }
  return take_from(sources_.back(), nonblocking);
}

/// A worker that was stopped, or got no CPU, for long: the primary has shut its socket down at the end of a change of policy, and its
/// word of another way waits to be read.
bool Listener::Impl::behind(const Error& error) const noexcept {
  if (accept_verdict(error.code) != AcceptVerdict::fatal) return false;
  pollfd words{.fd = worker_.fd(), .events = POLLIN, .revents = 0};
  return ::poll(&words, 1, 0) == 1;
}

Listener::Impl::Source* Listener::Impl::find(uint32_t cell) noexcept {
  const auto found = std::find_if(sources_.begin(), sources_.end(), [=](const Source& source) { return source.cell == cell; });
  return found == sources_.end() ? nullptr : &*found;
}

void Listener::Impl::told(const Message& message, Packet& packet) noexcept {
  Source* source = find(message.endpoint);
  if (message.act == Act::source) {
    if (source == nullptr && !gain(message)) worker_.let_go(message.endpoint);
    return;
  }
  if (source == nullptr) return;
  if (message.act != Act::part) return source->acceptor->told(message, packet);
  if (sources_.size() == 1) return;  // a listener has at least one
  source->acceptor->leave();         // a wake-up that it has swallowed must not be lost: hence one more look
  source->parting = true;
  if (message.value[0] != 0) source->takes_max = kLastTakes;
  look_again();
}

bool Listener::Impl::gain(const Message& message) noexcept try {
  auto acceptor = worker_.make_acceptor(message, {}, {});
  if (!acceptor) return false;
  sources_.reserve(sources_.size() + 1);
  bool joined = true;
  for (const Line& line : lines_) joined = joined && (*acceptor)->join(line.epoll_fd, line.data);
  if (!joined || !worker_.gained(this, message.endpoint)) {
    (*acceptor)->leave();  // others have its socket too, so that closing it would leave it in
    return false;
  }
  if (worker_.draining()) (*acceptor)->retire(worker_.all_leave());
  if (!lines_.empty()) (*acceptor)->rest();
  const bool older = message.value[5] != 0;
  sources_.insert(older ? sources_.begin() : sources_.end(), {std::move(*acceptor), message.endpoint});
  return true;
} catch (...) {
  return false;
}

void Listener::Impl::look_again() noexcept {
  if (!look_) {
    look_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    for (const Line& line : lines_) (void)add_eventfd(line.epoll_fd, line.data, look_.get());
  }
  Doorbell::ring(look_.get());
}

/// What was taken by that way counts for the listener.
void Listener::Impl::let_go(Source& source) noexcept {
  auto& cells = worker_.place().page().cells;
  auto& heir = atomic(cells[sources_.back().cell].accepted);
  heir.store(heir.load(std::memory_order_relaxed) + atomic(cells[source.cell].accepted).exchange(0), std::memory_order_relaxed);
  source.acceptor->leave();
  const uint32_t cell = source.cell;
  sources_.erase(sources_.begin() + (&source - sources_.data()));
  worker_.let_go(cell);
  uint64_t rings = 0;
  if (look_ && std::none_of(sources_.begin(), sources_.end(), [](const Source& each) { return each.parting; }))
    (void)!::read(look_.get(), &rings, sizeof rings);
}

}  // namespace lb
