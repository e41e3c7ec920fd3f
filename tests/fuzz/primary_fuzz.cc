// SPDX-License-Identifier: MIT
// The primary's receive path: a worker that says anything at all, in any order, with any descriptors. The worker is a seat in this
// very process, of which only the channel's end is used.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <iterator>
#include <optional>

#include "packets.hh"
#include "primary/cluster_impl.hh"

namespace lb {
namespace {

constexpr Act kLikely[] = {Act::query_listener, Act::query_listener, Act::query_listener,
                           Act::listening,      Act::listening,      Act::close,
                           Act::leaving,        Act::online,         Act::exited_after_disconnect};
constexpr const char* kPolicies[] = {"shared", "reuseport:hash", "round-robin"};
constexpr unsigned kWorkersPerCluster = 200;  // endpoints stay when their worker goes, and there is room for 64

/// A cluster that lives for some inputs, since making one costs more than an input.
struct World {
  std::unique_ptr<Cluster::Impl> cluster;
  unsigned workers = 0;

  Cluster::Impl& get(const char* policy) {
    if (!cluster || workers++ % kWorkersPerCluster == 0) {
      cluster.reset();
      cluster = Cluster::Impl::create({.workers = 8, .policy = Policy::parse(policy).value(), .respawn = false}).value();
    }
    return *cluster;
  }
};

/// The descriptor that the next socketpair(2) gives second: the worker's end of the channel, which join makes first.
int second_free_descriptor() {
  const UniqueFd first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd second(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  return second.get();
}

bool is_channel(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

}  // namespace
}  // namespace lb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static lb::World worlds[std::size(lb::kPolicies)];
  static lb::fuzz::Descriptors& descriptors = *new lb::fuzz::Descriptors;
  lb::fuzz::Input input(bytes, size);
  const unsigned which = input.below(std::size(lb::kPolicies));
  lb::Cluster::Impl& cluster = worlds[which].get(lb::kPolicies[which]);
  const int channel = lb::second_free_descriptor();
  auto joined = cluster.join();
  if (!joined) {  // every slot is taken by workers that are not buried yet
    if (!cluster.turn(std::chrono::milliseconds(0))) std::abort();
    return 0;
  }
  std::optional<lb::Worker> worker(std::move(*joined));
  if (!lb::is_channel(channel)) std::abort();
  for (unsigned packets = 1 + input.below(8); packets > 0; --packets) {
    lb::fuzz::send_any_packet(input, channel, descriptors, lb::kLikely, 16);
    if (input.below(2) == 0 && !cluster.turn(std::chrono::milliseconds(0))) std::abort();
  }
  if (!cluster.turn(std::chrono::milliseconds(0))) std::abort();
  (void)cluster.status().to_string();
  worker.reset();
  for (int turns = 0; turns < 4 && !cluster.workers().empty(); ++turns)
    if (!cluster.turn(std::chrono::milliseconds(0))) std::abort();
  return 0;
}
