// SPDX-License-Identifier: MIT
#include <signal.h>
#include <sys/signalfd.h>

#include <cstdio>

#include <lb/cluster.hh>

#include "primary/cluster_impl.hh"
#include "sys/error.hh"
#include "sys/process.hh"

namespace lb {
namespace {

constexpr int kExitNoCluster = 2;

int refuse(const Error& error) {
  std::fprintf(stderr, "liblb: %s\n", error.message().c_str());
  return kExitNoCluster;
}

void complain(const Result<void>& result) {
  if (!result) std::fprintf(stderr, "liblb: %s\n", result.error().message().c_str());
}

void report_upgrade(const Event& event) {
  if (event.kind == Event::Kind::upgrade_failed)
    std::fprintf(stderr, "liblb: upgrade: the new primary, pid %d, is no good: %s; this one goes on\n", event.pid, event.reason);
  if (event.kind == Event::Kind::upgrade_done)
    std::fprintf(stderr, "liblb: upgrade: pid %d has taken over; this one finishes what it holds\n", event.pid);
}

/// Blocks the signals that `run` takes for as long as it runs; the workers get the mask of before.
class SignalGate {
 public:
  SignalGate() noexcept {
    sigemptyset(&ours_);
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP}) sigaddset(&ours_, signal);
    ::sigprocmask(SIG_BLOCK, &ours_, &before_);
  }
  ~SignalGate() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  UniqueFd open() const noexcept { return UniqueFd(::signalfd(-1, &ours_, SFD_CLOEXEC | SFD_NONBLOCK)); }

 private:
  sigset_t ours_{};
  sigset_t before_{};
};

}  // namespace

struct RunLoop {
  template <class Spawn>
  static int run(Options options, Spawn spawn) noexcept;
};

template <class Spawn>
int RunLoop::run(Options options, Spawn spawn) noexcept {
  const unsigned workers = options.workers != 0 ? options.workers : usable_cpus();
  options.workers = workers;
  options.on_event = [asked = std::move(options.on_event)](const Event& event) {
    report_upgrade(event);
    if (asked) asked(event);
  };
  auto cluster = Cluster::create(std::move(options));  // remembers the signal mask for the workers
  if (!cluster) return refuse(cluster.error());

  const SignalGate gate;
  UniqueFd signals = gate.open();
  if (!signals) return refuse(last_error("signalfd"));
  bool stopping = false;
  bool upgrading = false;
  auto watched = cluster->impl_->watch_signals(std::move(signals), [&](int signal) {
    if (signal == SIGUSR1)
      std::fprintf(stderr, "%s", cluster->status().to_string().c_str());
    else if (signal == SIGHUP)
      complain(cluster->roll());
    else if (signal == SIGUSR2)
      upgrading = true;
    else if (!std::exchange(stopping, true))
      cluster->shutdown();
    else
      cluster->kill();
  });
  if (!watched) return refuse(watched.error());

  for (unsigned i = 0; i < workers; ++i)
    if (auto spawned = spawn(*cluster); !spawned) return refuse(spawned.error());
  while (!cluster->done()) {
    if (auto polled = cluster->impl_->turn(std::chrono::milliseconds(-1)); !polled) return refuse(polled.error());
    if (!std::exchange(upgrading, false)) continue;
    complain(cluster->upgrade());
  }
  return cluster->exit_code();
}

int run(Options options, WorkerFunction worker) noexcept {
  const bool threads = options.threads;
  return RunLoop::run(std::move(options),
                      [&](Cluster& cluster) { return threads ? cluster.spawn_thread(worker) : cluster.spawn(worker); });
}

int run(Options options, Command worker) noexcept {
  return RunLoop::run(std::move(options), [&](Cluster& cluster) { return cluster.spawn(worker); });
}

}  // namespace lb
