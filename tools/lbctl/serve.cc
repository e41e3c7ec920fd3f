// SPDX-License-Identifier: MIT
#include "serve.hh"

#include <fmt/format.h>
#include <httplib.h>
#include <pthread.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <lb/endpoint.hh>
#include <nlohmann/json.hpp>
#include <thread>

#include "metrics.hh"

namespace lbctl {
namespace {

constexpr size_t kThreads = 2;  // one scraper, and one who looks by hand

/// Waits for SIGINT and SIGTERM in a thread, so that they stop the server and nothing else.
class Stopper {
 public:
  explicit Stopper(httplib::Server& server) {
    sigemptyset(&signals_);
    for (const int signal : {SIGINT, SIGTERM}) sigaddset(&signals_, signal);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::thread([this, &server] {
      int signal = 0;
      sigwait(&signals_, &signal);
      while (!server.is_running() && !over_) std::this_thread::yield();  // else it would not hear of it
      server.stop();
    });
  }
  ~Stopper() {
    over_ = true;
    pthread_kill(thread_.native_handle(), SIGTERM);  // it may still wait
    thread_.join();
  }
  Stopper(const Stopper&) = delete;
  Stopper& operator=(const Stopper&) = delete;

 private:
  sigset_t signals_{};
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

void answer(const Primary& primary, httplib::Response& response) {
  try {
    response.set_content(metrics_text(Snapshot::parse(primary.ask("status"))), kMetricsType);
  } catch (const std::exception& failure) {  // the scrape fails, and Prometheus's `up` is 0
    response.status = 503;
    response.set_content(std::string(failure.what()) + "\n", "text/plain");
  }
}

/// The library's own default would let a second server share the port.
void set_options(int fd) {
  const int one = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
}

}  // namespace

std::string check_listen(const std::string& listen) {
  const auto endpoint = lb::Endpoint::parse("tcp://" + listen);
  return endpoint ? "" : fmt::format("\"{}\" is no ADDRESS:PORT: {}", listen, endpoint.error().op);
}

void serve_metrics(const Primary& primary, const std::string& listen) {
  (void)primary.ask("status");  // a wrong socket is told now
  const auto endpoint = lb::Endpoint::parse("tcp://" + listen);
  if (!endpoint) throw Failure(kWrongUse, check_listen(listen));
  const std::string text = endpoint->to_string().substr(std::strlen("tcp://"));
  std::string host = text.substr(0, text.rfind(':'));
  if (host.front() == '[') host = host.substr(1, host.size() - 2);

  httplib::Server server;
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_socket_options(set_options);
  server.Get("/metrics", [&](const httplib::Request&, httplib::Response& response) { answer(primary, response); });
  server.Get("/", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("lbctl serves a liblb cluster's metrics at /metrics\n", "text/plain");
  });
  errno = 0;
  int port = endpoint->port();
  const bool bound = port != 0 ? server.bind_to_port(host.c_str(), port) : (port = server.bind_to_any_port(host.c_str())) > 0;
  if (!bound)
    throw Failure(kRefused, fmt::format("cannot listen on {}: {}", text, errno != 0 ? std::strerror(errno) : "no such address"));
  const Stopper stopper(server);
  fmt::print(stderr, "metrics at http://{}:{}/metrics\n", text.substr(0, text.rfind(':')), port);
  if (!server.listen_after_bind()) throw Failure(kRefused, fmt::format("serving on {} failed", text));
}

}  // namespace lbctl
