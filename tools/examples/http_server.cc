// SPDX-License-Identifier: MIT
// A keep-alive HTTP/1.1 server on epoll: how a program with an event loop of its own uses liblb.
//   GET /                     answers at once; the header X-Worker names the worker
//   GET /sleep/MICROSECONDS   holds the worker up for so long, asleep; up to 10 seconds
//   GET /spin/MICROSECONDS    the same, computing
#include <sched.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <lb/lb.hh>
#include <set>
#include <string>

#include "http_worker.hh"

namespace example {
namespace {

void complain(const lb::Error& error) { std::fprintf(stderr, "http_server: %s\n", error.message().c_str()); }

/// Says once, on standard output, that all workers are ready.
class Announcement {
 public:
  explicit Announcement(unsigned workers) : workers_(workers) {}

  void operator()(const lb::Event& event) {
    if (event.kind != lb::Event::Kind::listening || event.endpoint == nullptr) return;
    ready_.insert(event.worker);
    if (ready_.size() != workers_ || std::exchange(made_, true)) return;
    const auto& endpoint = *event.endpoint;
    std::string how = endpoint.effective.to_string();
    if (!endpoint.rung.empty()) how += " (" + endpoint.rung + ")";
    if (!endpoint.reason.empty()) how += "; " + endpoint.reason;
    std::printf("http_server: listening on %s, %u workers, policy %s\n", endpoint.address.to_string().c_str(), workers_,
                how.c_str());
    std::fflush(stdout);
  }

 private:
  unsigned workers_;
  std::set<std::uint32_t> ready_;
  bool made_ = false;
};

unsigned cpu_count() {
  cpu_set_t cpus;
  return ::sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? static_cast<unsigned>(CPU_COUNT(&cpus)) : 1;
}

int main(int argc, char** argv) {
  CLI::App app{"A small HTTP/1.1 server: GET /, /sleep/MICROSECONDS and /spin/MICROSECONDS (both hold the worker up)."};
  std::string endpoint = "tcp://127.0.0.1:8080";
  unsigned workers = cpu_count();
  app.add_option("ENDPOINT", endpoint, "where to listen; port 0 lets the kernel choose")->capture_default_str();
  app.add_option("-w,--workers", workers, "worker processes; by default one for each CPU")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.set_version_flag("--version", std::string("http_server (liblb) ") + lb::kVersion);
  app.footer("LB_SCHED_POLICY chooses the policy: " + lb::policy_names() +
             ".\nSIGTERM finishes the requests in hand; SIGHUP replaces the workers one by one. Exit code: 0 after that, 1 when "
             "workers failed, 2 for a wrong "
             "option.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (auto parsed = lb::Endpoint::parse(endpoint); !parsed) return complain(parsed.error()), 2;

  return lb::run({.workers = workers, .on_event = Announcement(workers)}, [&](lb::Worker& worker) {
    auto listener = worker.listen(endpoint);
    if (!listener) return complain(listener.error()), 1;
    return serve_http(worker, *std::move(listener));
  });
}

}  // namespace
}  // namespace example

int main(int argc, char** argv) { return example::main(argc, argv); }
