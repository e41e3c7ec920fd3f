// SPDX-License-Identifier: MIT
// The shortest useful program over UDP: udp_echo ENDPOINT [WORKERS], e.g. udp_echo udp://127.0.0.1:7000 4.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <lb/lb.hh>
#include <span>

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) return std::fputs("usage: udp_echo ENDPOINT [WORKERS]\n", stderr), 2;
  const auto workers = argc == 3 ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)) : 0;

  return lb::run({.workers = workers}, [&](lb::Worker& worker) {
    auto socket = worker.bind(argv[1]);
    if (!socket) return std::fprintf(stderr, "udp_echo: %s\n", socket.error().message().c_str()), 1;
    std::printf("worker %u: %s\n", worker.id(), socket->address().to_string().c_str());
    std::fflush(stdout);
    std::array<std::byte, 65536> bytes;
    while (auto datagram = socket->receive(bytes)) (void)socket->reply(*datagram, std::span(bytes).first(datagram->size));
    return 0;
  });
}
