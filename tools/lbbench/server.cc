// SPDX-License-Identifier: MIT
#include "server.hh"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <lb/lb.hh>

#include "clock.hh"
#include "http_worker.hh"
#include "serve.hh"
#include "serve_datagrams.hh"

namespace lbbench {
namespace {

constexpr int kBacklog = 4096;
constexpr uint64_t kStartNs = 30'000'000'000;
constexpr uint64_t kDrainNs = 2'000'000'000;

template <size_t N>
void put(std::array<char, N>& to, const std::string& text) {
  to[text.copy(to.data(), N - 1)] = '\0';
}

/// What each worker runs. The first that fails says why, for all to see.
int work(lb::Worker& worker, const ServerPlan& plan, ServerReport& report) {
  const double slowdown = worker.id() <= plan.slow_workers ? plan.slowdown : 1;
  const Workload workload(plan.work, plan.timer_error_ns, slowdown);
  if (plan.datagrams) {
    auto socket = worker.bind("udp://127.0.0.1:0");
    if (!socket) return put(report.error, socket.error().message()), 1;
    serve_datagrams(worker, *socket, workload, plan.model);
    return socket->error().code == 0 ? 0 : 1;
  }
  auto listener = worker.listen("tcp://127.0.0.1:0", {.backlog = plan.http ? lb::ListenOptions{}.backlog : kBacklog});
  if (!listener) {
    put(report.error, listener.error().message());
    return 1;
  }
  if (plan.http) return example::serve_http(worker, *std::move(listener));
  if (plan.model == WorkerModel::serial) {
    serve_serially(worker, *listener, workload);
  } else {
    serve_by_event_loop(worker, *listener, workload);
  }
  return listener->error().code == 0 ? 0 : 1;
}

class Server {
 public:
  Server(const ServerPlan& plan, ServerReport& report) : plan_(plan), report_(report) {}

  bool start() {
    const auto policy = lb::Policy::parse(plan_.policy);
    if (!policy) return failed(policy.error());
    lb::Options options{.workers = plan_.workers, .policy = *policy, .respawn = false, .stealing = plan_.stealing};
    options.on_event = [this](const lb::Event& event) { on_event(event); };
    if (plan_.window) options.window = *plan_.window;
    auto cluster = lb::Cluster::create(std::move(options));
    if (!cluster) return failed(cluster.error());
    cluster_.emplace(std::move(*cluster));
    for (unsigned i = 0; i < plan_.workers; ++i) {
      const auto id = cluster_->spawn([this](lb::Worker& worker) { return work(worker, plan_, report_); });
      if (!id) return failed(id.error());
    }
    const uint64_t deadline_ns = now_ns() + kStartNs;
    while (listening_ < plan_.workers && report_.crashed_workers == 0) {
      if (now_ns() > deadline_ns)
        return failed(fmt::format("{} of {} workers were listening after 30 s", listening_, plan_.workers));
      if (const auto polled = cluster_->poll(std::chrono::milliseconds(100)); !polled) return failed(polled.error());
    }
    if (report_.crashed_workers > 0) return failed("a worker left before it was listening");
    describe();
    return true;
  }

  /// Sleeps but for the cluster's own needs: the primary's CPU time is one of the figures.
  bool run_until(int stop_fd) {
    if (const auto watched = cluster_->watch(stop_fd, [this] { stop_ = true; }); !watched) return failed(watched.error());
    while (!stop_)
      if (const auto polled = cluster_->poll(std::chrono::milliseconds(-1)); !polled) return failed(polled.error());
    return true;
  }

  void drain() {
    stopping_ = true;
    cluster_->shutdown();
    const uint64_t deadline_ns = now_ns() + kDrainNs;
    while (!cluster_->done() && now_ns() < deadline_ns && cluster_->poll(std::chrono::milliseconds(50)).ok()) {
    }
  }

 private:
  bool failed(const std::string& why) {
    if (report_.error[0] == '\0') put(report_.error, why);
    return false;
  }
  bool failed(const lb::Error& error) { return failed(error.message()); }

  void on_event(const lb::Event& event) {
    if (event.kind == lb::Event::Kind::listening) ++listening_;
    if (event.kind == lb::Event::Kind::exit && !stopping_) ++report_.crashed_workers;
  }

  void describe() {
    const lb::Status status = cluster_->status();
    if (!status.endpoints.empty()) {
      const auto& endpoint = status.endpoints.front();
      report_.port = endpoint.address.port();
      put(report_.effective, endpoint.effective.to_string());
      put(report_.rung, endpoint.rung);
      put(report_.reason, endpoint.reason);
    }
    report_.primary_pid = getpid();
    for (const auto& worker : status.workers) {
      if (report_.workers == kWorkersMax) break;
      report_.worker_ids[report_.workers] = worker.id;
      report_.worker_pids[report_.workers++] = worker.pid;
    }
  }

  const ServerPlan& plan_;
  ServerReport& report_;
  std::optional<lb::Cluster> cluster_;
  unsigned listening_ = 0;
  bool stop_ = false;
  bool stopping_ = false;
};

}  // namespace

int run_server(const ServerPlan& plan, ServerReport& report, int ready_fd, int stop_fd) {
  setenv("LB_SCHED_POLICY", plan.policy.c_str(), 1);  // what is set for the user's own programs is not for this one
  Server server(plan, report);
  if (!server.start()) return 1;
  if (write(ready_fd, "r", 1) != 1) return 1;
  const bool ran = server.run_until(stop_fd);
  server.drain();
  return ran ? 0 : 1;
}

}  // namespace lbbench
