// SPDX-License-Identifier: MIT
#include <lb/listener.hh>

#include <sys/epoll.h>

#include "sys/error.hh"
#include "sys/socket.hh"
#include "worker/listener_impl.hh"

namespace lb {
namespace {

constexpr uint64_t kConnections = 0;
constexpr uint64_t kWorkerEvents = 1;
constexpr int kBackOff_ms = 10;  // after EMFILE and its like

}  // namespace

Result<void> Listener::Impl::open() noexcept {
  waiting_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  if (!waiting_) return last_error("epoll_create1");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWorkerEvents;
  if (::epoll_ctl(waiting_.get(), EPOLL_CTL_ADD, worker_.fd(), &event) != 0) return last_error("epoll_ctl");
  return {};
}

/// Charges first and accepts then: between the two the connection counts once too often rather than not at all. But a worker that
/// only looks whether it may sleep must not seem busy meanwhile, or what arrives now goes to one that is.
Result<std::optional<Connection>> Listener::Impl::take_from(Source& source, bool nonblocking) noexcept {
  auto& page = worker_.place().page();
  auto& in_flight = atomic(page.in_flight);
  LoadToken load;
  const auto charge = [&] {
    in_flight.fetch_add(1, std::memory_order_relaxed);
    load = LoadToken(&in_flight);
  };
  const bool expected = source.acceptor->expects();
  if (expected) charge();
  worker_.place().beat();
  const bool elsewhere = std::exchange(took_, false) && !expected && may_guess();
  auto taken = elsewhere ? source.acceptor->take_elsewhere(nonblocking) : source.acceptor->take(nonblocking);
  if (!taken) return taken.error();
  if (!*taken) return std::optional<Connection>();
  if (!expected) charge();
  took_ = true;
  auto& accepted = atomic(page.cells[source.cell].accepted);
  accepted.store(accepted.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  taken->copies.epolls = worker_.place().epolls.data();
  taken->copies.certain |= worker_.is_in_primary();  // in workers that the primary forks meanwhile
  return std::optional<Connection>(std::in_place, std::move(taken->fd), std::move(load), taken->copies);
}

/// Draining, and nothing more to take: not before one last look, since a wake-up for a connection may have reached us together
/// with the word to drain, and nobody else is woken for that connection.
bool Listener::Impl::may_go() noexcept {
  if (must_empty()) return false;
  return std::exchange(took_last_, true);
}

/// Nothing more comes. An orphan lets go of its sockets, so that the next primary can have the address while this worker finishes
/// what it has in hand.
void Listener::Impl::end() noexcept {
  drained_ = true;
  if (worker_.orphaned()) close();
}

std::optional<Connection> Listener::Impl::accept() noexcept {
  if (worker_.is_in_primary()) {
    error_ = {EDEADLK, "accept: it would stop the primary, whose own worker this is; use try_accept"};
    return std::nullopt;
  }
  if (!joined_ && !closed_) {
    if (auto joined = join(waiting_.get(), kConnections); !joined) {
      error_ = joined.error();
      return std::nullopt;
    }
    joined_ = true;
  }
  while (!closed_) {
    worker_.dispatch_if_due();
    const bool draining = worker_.draining();
    if (draining && may_go()) break;
    auto taken = take(false);
    if (taken && *taken) return std::move(*taken);
    if (!taken && accept_verdict(taken.error().code) == AcceptVerdict::fatal) {
      error_ = taken.error();
      return std::nullopt;
    }
    if (taken && draining && settled()) break;  // it was draining before we looked, so nothing more comes
    if (taken) rest();
    wait(taken ? -1 : kBackOff_ms);
  }
  end();
  return std::nullopt;
}

/// Out of descriptors, only the primary's word and time matter: the connections that it cannot take would wake it at once.
void Listener::Impl::wait(int timeout_ms) noexcept {
  epoll_event events[2];
  const int from = timeout_ms < 0 ? waiting_.get() : worker_.fd();
  const int ready = ::epoll_wait(from, events, 2, timeout_ms);
  for (int i = 0; i < ready; ++i)
    if (timeout_ms >= 0 || events[i].data.u64 == kWorkerEvents) {
      (void)worker_.dispatch();
      return;
    }
}

Result<std::optional<Connection>> Listener::Impl::try_accept() noexcept {
  if (closed_) return std::optional<Connection>();
  const bool draining = worker_.draining();
  if (draining && may_go()) {
    end();
    return std::optional<Connection>();
  }
  auto taken = take(true);
  // Out of descriptors at the last look: what waits there is for others, and nothing would wake us for another one.
  if (!taken && draining && took_last_ && accept_verdict(taken.error().code) != AcceptVerdict::fatal) {
    end();
    return std::optional<Connection>();
  }
  if (taken && !*taken) {
    drained_ = draining && settled();
    rest();
    if (drained_) end();
  }
  return taken;
}

Result<void> Listener::Impl::watch(int epoll_fd, uint64_t data) noexcept {
  if (closed_) return Error{EBADF, "watch: the listener is closed"};
  if (auto joined = join(epoll_fd, data); !joined) return joined;
  worker_.place().watched_by(epoll_fd);
  rest();
  return {};
}

/// An epoll instance, whatever is in it: it stays the same when the policy changes.
int Listener::Impl::fd() noexcept {
  if (closed_) return -1;
  if (!hint_) {
    UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll || !join(epoll.get(), kConnections)) return -1;
    hint_ = std::move(epoll);
  }
  rest();
  return hint_.get();
}

Connection Listener::Impl::adopt(UniqueFd fd) noexcept {
  auto& in_flight = atomic(worker_.place().page().in_flight);
  in_flight.fetch_add(1, std::memory_order_relaxed);
  worker_.place().beat();
  return {std::move(fd), LoadToken(&in_flight)};
}

void Listener::Impl::close() noexcept {
  if (closed_) return;
  closed_ = true;
  while (sources_.size() > 1) let_go(sources_.front());
  sources_[0].acceptor->leave();
  sources_[0].acceptor.reset();
  worker_.forget(this, sources_[0].cell, key_, index_);
}

Listener::Listener(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Listener::Listener(Listener&&) noexcept = default;
Listener& Listener::operator=(Listener&&) noexcept = default;
Listener::~Listener() = default;

std::optional<Connection> Listener::accept() noexcept { return impl_->accept(); }
Result<std::optional<Connection>> Listener::try_accept() noexcept { return impl_->try_accept(); }
Result<void> Listener::watch(int epoll_fd, uint64_t data) noexcept { return impl_->watch(epoll_fd, data); }
int Listener::fd() noexcept { return impl_->fd(); }
Connection Listener::adopt(UniqueFd fd) noexcept { return impl_->adopt(std::move(fd)); }
const Endpoint& Listener::address() const noexcept { return impl_->address(); }
std::string_view Listener::blob() const noexcept { return impl_->blob(); }
bool Listener::drained() const noexcept { return impl_->drained(); }
Error Listener::error() const noexcept { return impl_->error(); }
void Listener::close() noexcept { impl_->close(); }

}  // namespace lb
