// SPDX-License-Identifier: MIT
// The first example of Node.js's cluster module, in liblb: node_cluster [KIND [ENDPOINT]], KIND is command (default, what
// Node.js does), forked or thread.
//
//   const cluster = require('cluster');                   #include <lb/lb.hh>
//   const http = require('http');
//   const numCPUs = require('os').cpus().length;          workers = 0: one for each CPU
//
//   if (cluster.isMaster) {                               if (!lb::is_worker())
//     for (let i = 0; i < numCPUs; i++)                     return lb::run({}, lb::Command{});
//       cluster.fork();
//   } else {
//     http.createServer((req, res) => {                   auto worker = lb::Worker::from_environment().value();
//       res.writeHead(200);                               return serve(worker, "tcp://0.0.0.0:8888");
//       res.end('hello world\n');
//     }).listen(8888);
//   }
//
// cluster.fork starts the same program again, which finds out that it is a worker; so does lb::Command{}. A forked worker and a
// thread need no second look at main: they run the function that they are given. What Node.js's example leaves out is in lb::run:
// a worker that crashes is replaced, SIGTERM drains, and the exit code tells.
#include <sys/socket.h>

#include <cstdio>
#include <lb/lb.hh>
#include <string>
#include <string_view>

namespace {

constexpr const char* kEndpoint = "tcp://127.0.0.1:8888";

void answer(int fd) {
  constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\nhello world\n";
  std::string request;
  char bytes[4096];
  ssize_t got = 0;
  while (request.find("\r\n\r\n") == std::string::npos && (got = recv(fd, bytes, sizeof bytes, 0)) > 0) {
    request.append(bytes, static_cast<size_t>(got));
  }
  if (got > 0) (void)send(fd, kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL);
}

int serve(lb::Worker& worker, const char* endpoint) {
  auto listener = worker.listen(endpoint);
  if (!listener) return std::fprintf(stderr, "node_cluster: %s\n", listener.error().message().c_str()), 1;
  while (auto connection = listener->accept()) answer(connection->fd());
  return 0;
}

void tell(const lb::Event& event) {
  if (event.kind != lb::Event::Kind::listening) return;
  std::printf("worker %u, process %d, listens on %s\n", event.worker, static_cast<int>(event.pid),
              event.endpoint->address.to_string().c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view kind = argc > 1 ? argv[1] : "command";
  const char* endpoint = argc > 2 ? argv[2] : kEndpoint;

  if (lb::is_worker()) {
    auto worker = lb::Worker::from_environment();
    if (!worker) return std::fprintf(stderr, "node_cluster: %s\n", worker.error().message().c_str()), 1;
    return serve(*worker, endpoint);
  }
  const auto work = [endpoint](lb::Worker& worker) { return serve(worker, endpoint); };
  if (kind == "command") return lb::run({.on_event = tell}, lb::Command{.args = {"command", endpoint}});
  if (kind == "forked") return lb::run({.on_event = tell}, work);
  if (kind == "thread") return lb::run({.threads = true, .on_event = tell}, work);
  return std::fputs("usage: node_cluster [command|forked|thread [ENDPOINT]]\n", stderr), 2;
}
