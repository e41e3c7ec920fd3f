// SPDX-License-Identifier: MIT
// Serves one connection, its own, and prints the version: the installed library works.
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <lb/lb.hh>

namespace {

int serve(lb::Worker& worker) {
  auto listener = worker.listen("tcp://127.0.0.1:0").value();
  const lb::UniqueFd client{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (::connect(client.get(), listener.address().address(), listener.address().length()) != 0) return 1;

  auto connection = listener.accept();
  if (!connection || ::send(connection->fd(), "served", 6, MSG_NOSIGNAL) != 6) return 1;
  connection->close();

  char answer[8] = "";
  if (::recv(client.get(), answer, sizeof answer - 1, MSG_WAITALL) != 6) return 1;
  std::printf("liblb %s: %s\n", lb::kVersion, answer);
  std::fflush(stdout);

  ::kill(::getppid(), SIGTERM);
  while (listener.accept()) {
  }
  return 0;
}

}  // namespace

int main() { return lb::run({.workers = 1}, serve); }
