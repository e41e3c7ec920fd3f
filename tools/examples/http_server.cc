// SPDX-License-Identifier: MIT
// A keep-alive HTTP/1.1 server on epoll: how a program with an event loop of its own uses liblb.
//   GET /                     answers at once; the header X-Worker names the worker
//   GET /sleep/MICROSECONDS   holds the worker up for so long, asleep; up to 10 seconds
//   GET /spin/MICROSECONDS    the same, computing
#include <sched.h>
#include <sys/epoll.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <lb/lb.hh>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>

#include "http_session.hh"

namespace example {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kListenerTag = UINT64_MAX;
constexpr std::uint64_t kWorkerTag = UINT64_MAX - 1;
constexpr int kEventsMax = 64;
constexpr int kAcceptsMax = 16;  // per turn: new clients must not keep the present ones waiting
constexpr auto kSweepPeriod = 200ms;
constexpr auto kDrainPeriod = 20ms;
constexpr auto kBackOff = 10ms;  // after EMFILE and its like

void complain(const lb::Error& error) { std::fprintf(stderr, "http_server: %s\n", error.message().c_str()); }

bool passes(int accept_error) noexcept {
  return accept_error == EMFILE || accept_error == ENFILE || accept_error == ENOBUFS || accept_error == ENOMEM;
}

/// What one worker runs.
class HttpWorker {
 public:
  static int serve(lb::Worker& worker, const std::string& endpoint) {
    auto listener = worker.listen(endpoint);
    lb::UniqueFd epoll{::epoll_create1(EPOLL_CLOEXEC)};
    if (!listener) return complain(listener.error()), 1;
    if (!epoll) return complain({errno, "epoll_create1"}), 1;
    return HttpWorker(worker, *std::move(listener), std::move(epoll)).run();
  }

 private:
  struct Client {
    HttpSession session;
    HttpSession::Wants watched = HttpSession::Wants::close;  // what epoll waits for; close: not in it yet
  };

  HttpWorker(lb::Worker& worker, lb::Listener listener, lb::UniqueFd epoll)
      : worker_(worker), epoll_(std::move(epoll)), listener_(std::move(listener)) {}

  int run() {
    if (auto watched = listener_.watch(epoll_.get(), kListenerTag); !watched) return complain(watched.error()), 1;
    epoll_event event{.events = EPOLLIN, .data = {.u64 = kWorkerTag}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, worker_.fd(), &event) != 0) return complain({errno, "epoll_ctl"}), 1;
    do {
      wait_and_serve();
      sweep();
    } while (!leaving() || accepting_ || !clients_.empty());
    return exit_code_;
  }

  bool leaving() const { return worker_.draining() || exit_code_ != 0; }

  int timeout_ms() const {
    if (accept_again_) return 0;
    if (leaving()) return static_cast<int>(std::chrono::milliseconds(kDrainPeriod).count());
    return clients_.empty() ? -1 : static_cast<int>(std::chrono::milliseconds(kSweepPeriod).count());
  }

  void wait_and_serve() {
    std::array<epoll_event, kEventsMax> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsMax, timeout_ms());
    bool accept = accept_again_ || leaving();
    for (int i = 0; i < count; ++i) {
      const auto tag = events[static_cast<std::size_t>(i)].data.u64;
      if (tag == kListenerTag) {
        accept = true;
      } else if (tag == kWorkerTag) {
        if (auto dispatched = worker_.dispatch(); !dispatched) give_up(dispatched.error());
      } else if (auto client = clients_.find(static_cast<int>(tag)); client != clients_.end()) {
        proceed(client);
      }
    }
    if (accept && accepting_) accept_waiting();
  }

  // Each client is served before the next one is taken: while this worker is busy, another one can take it.
  void accept_waiting() {
    for (int i = 0; i < kAcceptsMax; ++i) {
      auto accepted = listener_.try_accept();
      if (!accepted && passes(accepted.error().code)) return std::this_thread::sleep_for(kBackOff);
      if (!accepted) return give_up(accepted.error());
      accept_again_ = accepted->has_value();
      if (!accept_again_) break;
      const int fd = (*accepted)->fd();
      proceed(clients_.insert_or_assign(fd, Client{HttpSession(*std::move(*accepted), worker_)}).first);
    }
    if (!accept_again_ && leaving() && (listener_.drained() || exit_code_ != 0)) stop_accepting();
  }

  void stop_accepting() {
    accepting_ = accept_again_ = false;
    listener_.close();
  }

  // Accepting no longer works: finish with the clients that are here.
  void give_up(const lb::Error& error) {
    complain(error);
    exit_code_ = 1;
    stop_accepting();
  }

  using Clients = std::unordered_map<int, Client>;

  Clients::iterator proceed(Clients::iterator at) { return watch(at, at->second.session.proceed(leaving())); }

  Clients::iterator watch(Clients::iterator at, HttpSession::Wants wants) {
    auto& [session, watched] = at->second;
    if (wants == HttpSession::Wants::close) return drop(at);
    if (wants == watched) return std::next(at);
    epoll_event event{.events = wants == HttpSession::Wants::read ? EPOLLIN : EPOLLOUT, .data = {.u64 = 0}};
    event.data.u64 = static_cast<std::uint64_t>(session.fd());
    const int act = watched == HttpSession::Wants::close ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (::epoll_ctl(epoll_.get(), act, session.fd(), &event) != 0) return drop(at);
    watched = wants;
    return std::next(at);
  }

  Clients::iterator drop(Clients::iterator at) {
    // Closing is not enough to leave epoll while another process holds the same socket, as the primary may for a
    // moment.
    const auto& client = at->second;
    if (client.watched != HttpSession::Wants::close) {
      (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, client.session.fd(), nullptr);
    }
    return clients_.erase(at);
  }

  void sweep() {
    const auto now = Clock::now();
    if (now - swept_ < (leaving() ? kDrainPeriod : kSweepPeriod)) return;
    swept_ = now;
    for (auto at = clients_.begin(); at != clients_.end();) at = sweep(at, now);
  }

  // Drops a client that is overdue and, when leaving, one that is idle: after a last look for a request on its way.
  Clients::iterator sweep(Clients::iterator at, Clock::time_point now) {
    auto& session = at->second.session;
    const bool last_look = leaving() && session.idle();
    if (!last_look) return session.overdue(now, leaving()) ? drop(at) : std::next(at);
    const auto wants = session.proceed(true);
    return watch(at, session.idle() ? HttpSession::Wants::close : wants);
  }

  lb::Worker& worker_;
  lb::UniqueFd epoll_;
  lb::Listener listener_;
  Clients clients_;
  bool accepting_ = true;
  bool accept_again_ = false;  // there may be more than the last turn took
  int exit_code_ = 0;
  Clock::time_point swept_ = Clock::now();
};

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

  return lb::run({.workers = workers, .on_event = Announcement(workers)},
                 [&](lb::Worker& worker) { return HttpWorker::serve(worker, endpoint); });
}

}  // namespace
}  // namespace example

int main(int argc, char** argv) { return example::main(argc, argv); }
