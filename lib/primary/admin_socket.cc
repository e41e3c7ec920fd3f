// SPDX-License-Identifier: MIT
#include "primary/admin_socket.hh"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "sys/error.hh"
#include "sys/process.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

constexpr size_t kClientsMax = 8;  // at a time; the others wait in the listening socket's queue
constexpr int kBacklog = 16;
constexpr int kEventsInTurnMax = 4;                  // so that operators cannot keep the primary from its work
constexpr uint64_t kPatience_ns = 2'000'000'000;     // for a client, from its connect to the last byte of its answer
constexpr uint64_t kAcceptPause_ns = 1'000'000'000;  // after running out of descriptors or memory
constexpr uint64_t kListener = 0;                    // clients count from 1

/// This user or root (SO_PEERCRED, unix(7)). Who may not write to the path has not come this far; an abstract name has no mode.
bool may_ask(int fd) noexcept {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == ::geteuid());
}

}  // namespace

Result<std::unique_ptr<AdminSocket>> AdminSocket::open(EventLoop& loop, const std::string& path, Answer answer) noexcept try {
  const auto naming = [](const Error& error) { return error_naming(error.code, std::string("admin socket: ") + error.op); };
  auto endpoint = Endpoint::parse("unix:" + path);
  if (!endpoint) return naming(endpoint.error());
  auto listener = listen_at(*endpoint, {.backlog = kBacklog, .permissions = 0600});
  if (!listener) return naming(listener.error());
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return last_error("admin socket: epoll_create1");
  std::unique_ptr<AdminSocket> socket(new AdminSocket(std::move(*listener), std::move(epoll), std::move(answer)));
  socket->listen(true);
  if (!socket->listening_) return last_error("admin socket: epoll_ctl");
  auto token = loop.watch(socket->epoll_.get(), [self = socket.get()] { self->on_readable(); });
  if (!token) return naming(token.error());
  return socket;
} catch (...) {
  return Error{ENOMEM, "admin socket"};
}

bool AdminSocket::watch(int operation, int fd, uint32_t events, uint64_t id) noexcept {
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  return ::epoll_ctl(epoll_.get(), operation, fd, &event) == 0;
}

void AdminSocket::listen(bool on) noexcept {
  if (on == listening_) return;
  if (watch(on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener_.fd.get(), EPOLLIN, kListener)) listening_ = on;
}

void AdminSocket::on_readable() noexcept {
  epoll_event events[kEventsInTurnMax];
  const int ready = ::epoll_wait(epoll_.get(), events, kEventsInTurnMax, 0);
  for (int i = 0; i < ready; ++i) {
    if (events[i].data.u64 == kListener) accept();
    for (auto& client : clients_)
      if (client->id == events[i].data.u64) serve(*client);
  }
  std::erase_if(clients_, [](const auto& client) { return !client->fd; });
  if (retry_ns_ == 0) listen(clients_.size() < kClientsMax);
}

void AdminSocket::accept() noexcept try {
  if (clients_.size() >= kClientsMax) return;
  auto accepted = accept_from(listener_.fd.get(), true);
  if (accepted && !*accepted) return;
  if (!accepted) {
    retry_ns_ = now_ns() + kAcceptPause_ns;
    return listen(false);
  }
  auto client = std::make_unique<Client>();
  client->id = ++last_id_;
  client->fd = std::move(*accepted);
  client->deadline_ns = now_ns() + kPatience_ns;
  if (!may_ask(client->fd.get())) return;
  if (watch(EPOLL_CTL_ADD, client->fd.get(), EPOLLIN, client->id)) clients_.push_back(std::move(client));
} catch (...) {  // no memory: that client is turned away
}

void AdminSocket::serve(Client& client) noexcept {
  if (client.answer.empty()) return receive(client);
  send(client);
}

void AdminSocket::receive(Client& client) noexcept try {
  const auto got =
      ::recv(client.fd.get(), client.request.data() + client.received, client.request.size() - client.received, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return client.fd.reset();  // it has gone
  client.received += static_cast<size_t>(got);
  const std::string_view request(client.request.data(), client.received);
  const size_t end = request.find('\n');
  if (end == std::string_view::npos && client.received < client.request.size()) return;
  client.answer = answer_(request.substr(0, end)) + "\n";
  send(client);
} catch (...) {
  client.fd.reset();
}

void AdminSocket::send(Client& client) noexcept {
  const auto sent =
      ::send(client.fd.get(), client.answer.data() + client.sent, client.answer.size() - client.sent, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) return client.fd.reset();
  client.sent += sent > 0 ? static_cast<size_t>(sent) : 0;
  if (client.sent == client.answer.size() || !watch(EPOLL_CTL_MOD, client.fd.get(), EPOLLOUT, client.id)) client.fd.reset();
}

void AdminSocket::turn() noexcept {
  const uint64_t now = now_ns();
  std::erase_if(clients_, [=](const auto& client) { return client->deadline_ns <= now; });
  if (retry_ns_ != 0 && now < retry_ns_) return;
  retry_ns_ = 0;
  listen(clients_.size() < kClientsMax);
}

int AdminSocket::next_turn_ms() const noexcept {
  uint64_t next = retry_ns_ != 0 ? retry_ns_ : UINT64_MAX;
  for (const auto& client : clients_) next = std::min(next, client->deadline_ns);
  return ms_until(next);
}

}  // namespace lb
