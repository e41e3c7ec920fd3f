// SPDX-License-Identifier: MIT
// Handing descriptors over a SOCK_SEQPACKET pair with SCM_RIGHTS, both ends' work in one process; the argument is the batch.
// Time and rate are per batch and per descriptor.
#include <benchmark/benchmark.h>
#include <sys/socket.h>

#include <vector>

#include "wire/channel.hh"
#include "wire/handoff.hh"

namespace lb {
namespace {

void hand_off(benchmark::State& state) {
  const auto batch = static_cast<size_t>(state.range(0));
  auto ends = make_channel().value();
  std::vector<UniqueFd> sockets;
  std::vector<int> fds;
  for (size_t i = 0; i < batch; ++i) {
    sockets.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    fds.push_back(sockets.back().get());
  }
  HandoffPacket sent;
  sent.count = static_cast<uint32_t>(batch);
  HandoffPacket got;
  Packet packet;
  for (auto _ : state) {
    if (!send_packet(ends.first.get(), &sent, sent.size(), fds)) return state.SkipWithError("send");
    if (!receive_packet(ends.second.get(), &got, sizeof got, packet)) return state.SkipWithError("receive");
    for (size_t i = 0; i < packet.fd_count; ++i) packet.fds[i].reset();
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * batch));
}
BENCHMARK(hand_off)->Arg(1)->Arg(8)->Arg(32);

}  // namespace
}  // namespace lb
