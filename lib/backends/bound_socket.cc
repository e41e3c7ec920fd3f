// SPDX-License-Identifier: MIT
#include "backends/bound_socket.hh"

#include <fcntl.h>

#include "sys/error.hh"
#include "sys/inherited.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

bool listens_already(int fd) noexcept {
  int listens = 0;
  socklen_t length = sizeof listens;
  return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens != 0;
}

}  // namespace

Result<BoundSocket> BoundSocket::open(const Surroundings& around, const ListenRequest& request) noexcept {
  const Endpoint::Kind kind = request.endpoint.kind();
  if (kind == Endpoint::Kind::unix_socket) {
    auto made = listen_at(request.endpoint, request.options);
    if (!made) return made.error();
    BoundSocket socket(std::move(made->fd), std::make_shared<UnixPath>(std::move(made->path)), request.endpoint);
    socket.listens_ = true;
    return socket;
  }
  const bool inherited = kind == Endpoint::Kind::inherited;
  auto fd = inherited ? around.inherited.open(request.endpoint)
                      : bind_to(request.endpoint, {.v6only = request.options.v6only, .more = &request.options});
  if (!fd) return fd.error();
  auto bound = local_address(fd->get());
  if (!bound) return bound.error();
  BoundSocket socket(std::move(*fd), nullptr, *bound);
  if (!inherited) return socket;
  socket.listens_ = listens_already(socket.get());
  socket.inherited_ = true;
  if (auto listening = socket.listen(request.options.backlog); !listening) return listening.error();
  return socket;
}

BoundSocket BoundSocket::adopt(UniqueFd fd, Endpoint address) noexcept {
  BoundSocket socket(std::move(fd), nullptr, address);
  socket.listens_ = listens_already(socket.get());
  return socket;
}

BoundSocket BoundSocket::adopt(UniqueFd fd, Endpoint address, UnixPath path, bool inherited) noexcept {
  BoundSocket socket = adopt(std::move(fd), address);
  if (path) socket.path_ = std::make_shared<UnixPath>(std::move(path));
  socket.inherited_ = inherited;
  return socket;
}

Result<BoundSocket> BoundSocket::duplicate() const noexcept {
  UniqueFd fd(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 3));
  if (!fd) return last_error("F_DUPFD_CLOEXEC");
  BoundSocket socket(std::move(fd), path_, address_);
  socket.listens_ = listens_ || listens_already(socket.get());  // `shared`: a worker may have made it listen
  socket.inherited_ = inherited_;
  return socket;
}

Result<void> BoundSocket::listen(int backlog) noexcept {
  if (inherited_ && listens_) return {};
  auto listening = listen_on(fd_.get(), backlog, address_);
  listens_ |= listening.ok();
  return listening;
}

void BoundSocket::refuse_new() noexcept {
  if (inherited_) return;
  if (address_.family() == AF_UNIX)
    ::shutdown(fd_.get(), SHUT_RD);
  else
    (void)drop_new_clients(fd_.get());
}

bool BoundSocket::handshaking() noexcept {
  if (address_.family() == AF_UNIX || inherited_) return false;
  return handshakes_.under_way(static_cast<sa_family_t>(address_.family()), address_.port());
}

uint32_t BoundSocket::ours() const noexcept { return inherited_ ? accept_queue_length(fd_.get()) : UINT32_MAX; }

}  // namespace lb
