// SPDX-License-Identifier: MIT
#include "serve_datagrams.hh"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "clock.hh"
#include "protocol.hh"

namespace lbbench {
namespace {

constexpr uint64_t kSocket = 0;
constexpr uint64_t kPrimary = 1;

using Buffer = std::array<std::byte, 64>;

void answer(lb::DatagramSocket& socket, const lb::Datagram& datagram, const Buffer& buffer, const Workload& workload,
            uint32_t worker) {
  DatagramRequest request{};
  if (datagram.size != sizeof request) return;
  std::memcpy(&request, buffer.data(), sizeof request);
  const int64_t error_ns = workload.spend(now_ns(), request.service_ns);
  const DatagramAnswer reply{.service_error_ns = error_ns, .id = request.id, .worker = worker, .reserved = 0};
  (void)socket.reply(datagram, std::as_bytes(std::span(&reply, 1)));  // UDP loses, and the generator counts
}

void serve_by_epoll(lb::Worker& worker, lb::DatagramSocket& socket, const Workload& workload) {
  const lb::UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kPrimary}};
  if (!epoll || epoll_ctl(epoll.get(), EPOLL_CTL_ADD, worker.fd(), &event) != 0 || !socket.watch(epoll.get(), kSocket)) return;
  Buffer buffer{};
  bool more = true;
  while (!socket.drained()) {
    std::array<epoll_event, 2> events{};
    const int n = epoll_wait(epoll.get(), events.data(), events.size(), more ? 0 : -1);
    if (n < 0 && errno != EINTR) return;
    for (int i = 0; i < n; ++i) {
      if (events[static_cast<size_t>(i)].data.u64 == kPrimary && !worker.dispatch()) return;
      more = true;  // also to learn that it is drained
    }
    auto datagram = socket.try_receive(buffer);
    if (!datagram) return;
    more = datagram->has_value();
    if (more) answer(socket, **datagram, buffer, workload, worker.id());
  }
}

}  // namespace

void serve_datagrams(lb::Worker& worker, lb::DatagramSocket& socket, const Workload& workload, WorkerModel model) {
  if (model == WorkerModel::event_loop) return serve_by_epoll(worker, socket, workload);
  Buffer buffer{};
  while (const auto datagram = socket.receive(buffer)) answer(socket, *datagram, buffer, workload, worker.id());
}

}  // namespace lbbench
