// SPDX-License-Identifier: MIT
// A scheduling rule of one's own: custom_selector ENDPOINT [WORKERS]. Each client address sticks to one worker, whatever its port:
// rendezvous hashing, so that a worker that comes or goes moves no other worker's clients. Answers HTTP with the worker's id.
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include <lb/lb.hh>

namespace {

/// FNV-1a, then mixed: neighbours are to be far apart.
uint64_t hash_of(std::string_view address, uint32_t worker) {
  uint64_t hash = 0xcbf29ce484222325 ^ worker * 0x9e3779b97f4a7c15;
  for (const char c : address) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return (hash ^ hash >> 32) * 0xd6e8feb86659fd93;
}

/// The client's address without its port.
std::string address_of(const lb::Incoming& connection) {
  const auto peer = connection.peer();
  const auto text = peer ? peer->to_string() : std::string();
  return text.substr(0, text.rfind(':'));
}

/// The worker with the highest hash for this client. If it has no room, the client waits for it.
std::optional<uint32_t> same_worker_for_same_address(std::span<const lb::Candidate> candidates, const lb::Incoming& connection) {
  const auto address = address_of(connection);
  const lb::Candidate* best = nullptr;
  for (const auto& each : candidates)
    if (best == nullptr || hash_of(address, each.worker) > hash_of(address, best->worker)) best = &each;
  if (best == nullptr || !best->has_room) return std::nullopt;
  return best->worker;
}

void answer(const lb::Worker& worker, int fd) {
  char request[4096];
  if (recv(fd, request, sizeof request, 0) <= 0) return;
  const auto body = "worker " + std::to_string(worker.id()) + "\n";
  const auto text = "HTTP/1.0 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  (void)send(fd, text.data(), text.size(), MSG_NOSIGNAL);
}

void print_event(const lb::Event& event) {
  if (event.kind != lb::Event::Kind::listening) return;
  std::printf("worker %u listens on %s, policy %s\n", event.worker, event.endpoint->address.to_string().c_str(),
              event.endpoint->effective.to_string().c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) return std::fputs("usage: custom_selector ENDPOINT [WORKERS]\n", stderr), 2;

  lb::Options options;
  options.workers = argc == 3 ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)) : 0;
  options.policy = {lb::Backend::round_robin, lb::Selector::custom};
  options.selector = same_worker_for_same_address;
  options.on_event = print_event;
  return lb::run(std::move(options), [&](lb::Worker& worker) {
    auto listener = worker.listen(argv[1]);
    if (!listener) return std::fprintf(stderr, "custom_selector: %s\n", listener.error().message().c_str()), 1;
    while (auto connection = listener->accept()) answer(worker, connection->fd());
    return 0;
  });
}
