// SPDX-License-Identifier: MIT
// The worker's receive path: a primary that says anything at all, in any order, and hands off anything.
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cstdlib>
#include <vector>

#include "packets.hh"
#include "wire/handoff.hh"
#include "wire/user_channel.hh"
#include "worker/worker_impl.hh"

namespace lb {
namespace {

constexpr uint32_t kSlots = 4;
constexpr Act kLikely[] = {Act::listener, Act::listener, Act::listener, Act::siblings, Act::adopt, Act::disown, Act::nudge,
                           Act::drain,    Act::welcome,  Act::source,   Act::source,   Act::part,  Act::shed};

/// What lives as long as the fuzzer: a board, and a doorbell that nobody hears.
struct World {
  Scoreboard board = Scoreboard::create({}, kSlots).value();
  UniqueFd doorbell{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  fuzz::Descriptors descriptors;
};

void send_welcome(fuzz::Input& input, int channel, int messages, World& world) {
  Message welcome;
  welcome.act = Act::welcome;
  welcome.value[0] = input.below(64) == 0 ? input.take<uint32_t>() : input.below(kSlots);
  welcome.value[1] = input.below(64) == 0 ? input.take<uint32_t>() : kSlots;
  welcome.value[2] = input.below(2);
  const int fds[] = {world.board.worker_pages_fd(), world.board.primary_page_fd(), world.doorbell.get(), messages};
  if (!send_packet(channel, &welcome, sizeof welcome, {fds, input.below(64) == 0 ? 2U : 4U})) std::abort();
}

void send_handoff(fuzz::Input& input, World& world) {
  HandoffPacket packet;
  packet.count = input.below(5);
  for (uint32_t i = 0; i < packet.count; ++i)
    packet.entry[i] = {input.below(8) == 0 ? input.take<uint32_t>() : input.below(4), input.below(8), input.below(2)};
  const size_t size = input.below(8) == 0 ? input.take<uint8_t>() : packet.size();
  if (input.below(16) == 0) packet.count = input.take<uint32_t>();
  (void)send_packet(world.descriptors.handoffs(), &packet, size, world.descriptors.choose(input));
}

void take_all(std::vector<Listener>& listeners, std::vector<Connection>& connections) {
  for (auto& listener : listeners)
    for (int i = 0; i < 8; ++i) {
      auto accepted = listener.try_accept();
      if (!accepted || !*accepted) break;
      connections.push_back(std::move(**accepted));
    }
}

void work(fuzz::Input& input, Worker& worker) {
  std::vector<DatagramSocket> sockets;
  std::vector<Listener> listeners;
  std::vector<Connection> connections;
  for (int step = 0; step < 8; ++step) {
    switch (input.below(6)) {
      case 0:
        (void)worker.dispatch();
        break;
      case 1:
        if (auto listener = worker.listen("tcp://127.0.0.1:0", {.backlog = 8})) listeners.push_back(std::move(*listener));
        break;
      case 4:
        if (auto socket = worker.bind("udp://127.0.0.1:0")) sockets.push_back(std::move(*socket));
        break;
      case 5:
        (void)worker.on_message([](UserMessage& message) { (void)message.reply("heard"); });
        break;
      case 2:
        take_all(listeners, connections);
        break;
      default:
        if (!listeners.empty() && input.below(2) == 0) listeners.pop_back();
        if (!connections.empty()) connections.pop_back();
        break;
    }
  }
}

}  // namespace
}  // namespace lb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static lb::World& world = *new lb::World;
  lb::fuzz::Input input(bytes, size);
  auto ends = lb::make_channel();
  if (!ends) std::abort();
  const lb::UniqueFd primary = std::move(ends->first);
  world.descriptors.renew_handoffs();

  // All that the primary will ever say is in the channel before the worker looks, so that the worker never waits.
  auto messages = lb::make_user_channel();
  if (!messages) std::abort();
  send_welcome(input, primary.get(), messages->second.get(), world);
  for (unsigned count = input.below(3); count > 0; --count) {
    const auto said = input.text(input.take<uint8_t>());
    (void)lb::send_packet(messages->first.get(), said.data(), said.size(), world.descriptors.choose(input));
  }
  for (unsigned packets = input.below(8); packets > 0; --packets)
    lb::fuzz::send_any_packet(input, primary.get(), world.descriptors, lb::kLikely, 1);
  for (unsigned packets = input.below(3); packets > 0; --packets) lb::send_handoff(input, world);
  ::shutdown(primary.get(), SHUT_WR);

  auto impl = lb::Worker::Impl::start(1, std::move(ends->second), lb::UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
  if (!impl) return 0;
  lb::Worker worker(std::move(*impl));
  lb::work(input, worker);
  return 0;
}
