// SPDX-License-Identifier: MIT
// The shortest useful program: echo ENDPOINT [WORKERS], e.g. echo tcp://127.0.0.1:7000 4. One connection at a time per
// worker.
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <lb/lb.hh>

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) return std::fputs("usage: echo ENDPOINT [WORKERS]\n", stderr), 2;
  const auto workers = argc == 3 ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)) : 0;

  return lb::run({.workers = workers}, [&](lb::Worker& worker) {
    auto listener = worker.listen(argv[1]);
    if (!listener) return std::fprintf(stderr, "echo: %s\n", listener.error().message().c_str()), 1;
    while (auto connection = listener->accept()) {
      char bytes[4096];
      ssize_t got = 0;
      while ((got = recv(connection->fd(), bytes, sizeof bytes, 0)) > 0 &&
             send(connection->fd(), bytes, static_cast<size_t>(got), MSG_NOSIGNAL) == got) {
      }
    }
    return 0;
  });
}
