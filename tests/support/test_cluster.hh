// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <lb/lb.hh>
#include <optional>
#include <string>
#include <vector>

#include "board.hh"
#include "client.hh"
#include "load.hh"
#include "server.hh"
#include "shared.hh"

namespace lb::test {

/// An Event that may be kept.
struct Seen : Event {
  std::optional<EndpointStatus> at;  ///< for listening: a copy of `*endpoint`
};

/// What a contract test runs over.
struct Setting {
  Setting(const char* its_policy, WorkerKind its_kind = WorkerKind::forked)
      : policy(its_policy), kind(its_kind) {}                         // NOLINT: a policy
  Setting(std::string its_policy) : policy(std::move(its_policy)) {}  // NOLINT: is a setting

  std::string policy;
  WorkerKind kind = WorkerKind::forked;
};

/// A cluster whose primary is the test's own process, which drives it while it waits for something.
class TestCluster {
 public:
  /// Fails the test if the cluster cannot be made: ask `made()`.
  explicit TestCluster(Setting setting, Options options = {});
  ~TestCluster();
  TestCluster(const TestCluster&) = delete;
  TestCluster& operator=(const TestCluster&) = delete;

  bool made() const noexcept { return cluster_.has_value(); }
  Cluster* operator->() noexcept { return &*cluster_; }

  /// Spawns a worker of the setting's kind.
  Result<uint32_t> spawn(const Program& program, const std::string& argument = "");
  /// The same for a function, which no program of its own can run.
  Result<uint32_t> spawn(const WorkerFunction& function);
  /// Spawns `count` workers, and waits until each listens on `endpoints` endpoints.
  bool start(unsigned count, const Program& program, const std::string& argument = "", unsigned endpoints = 1);
  bool start(unsigned count, const WorkerFunction& function, unsigned endpoints = 1);
  /// start() of workers that answer in this style.
  bool start(unsigned count, Style style, const std::string& endpoint = kAnyPort);

  /// Drives the cluster, and the clients, until it is so. False, and a failed test that says `what`, if it never is.
  bool wait_until(const char* what, const std::function<bool()>& so, Crowd* crowd = nullptr, const Load* load = nullptr);
  /// Connects clients that do not ask until each of so many blocking workers is busy with one; the other clients wait.
  bool occupy(Crowd& crowd, unsigned workers);
  /// Connects clients to workers that have event loops, each when the one before has been greeted and whoever did so is back in its
  /// loop: until then round-robin gives it nothing. They stay.
  bool hold_one_by_one(Crowd& crowd, size_t clients);
  /// So many clients at once are answered.
  void expect_serves(size_t clients);
  /// Until every client is greeted, or answered and closed.
  bool wait_greeted(Crowd& crowd);
  bool wait_finished(Crowd& crowd);
  bool wait_over(const Load& load);
  /// Until the worker has gone; it may be any exit.
  bool wait_exit(uint32_t worker);
  /// Drains all workers and waits until they have gone.
  bool shut_down();

  /// The end of most tests: all workers drain, leave with 0 and had nothing to complain about.
  void expect_clean_shutdown();

  /// The bound address of the first endpoint.
  Endpoint address() const;
  EndpointStatus endpoint() const;
  /// Whether an eBPF program selects, by load or by address, for the first endpoint.
  bool has_program() const { return endpoint().rung.rfind("eBPF", 0) == 0; }
  /// Connections that wait in the queues of the first endpoint's workers.
  uint32_t untaken() const;
  WorkerStatus worker(uint32_t id) const;

  const std::vector<Seen>& events() const noexcept { return events_; }
  unsigned count(Event::Kind kind) const noexcept;
  /// The first such event of the worker, or null.
  const Seen* event(Event::Kind kind, uint32_t worker) const noexcept;
  std::string describe() const;

  Board& board() const noexcept { return *board_; }
  const Shared<Board>& shared_board() const noexcept { return board_; }

 private:
  bool start(unsigned count, const std::function<Result<uint32_t>()>& spawn_one, unsigned endpoints);
  bool at_rest() const;

  WorkerKind kind_;
  Shared<Board> board_;
  std::vector<Seen> events_;
  std::optional<Cluster> cluster_;
};

/// The same as TestCluster::wait_until, for a test whose primary is another process.
bool wait_until(const char* what, const std::function<bool()>& so, Crowd* crowd = nullptr);

/// max / mean of the shares of workers `first`..`last`; 0 if one of them got nothing.
double max_over_mean(const std::vector<unsigned>& per_worker, uint32_t first, uint32_t last);

/// "worker 1: 25, worker 2: 25".
std::string shares(const std::vector<unsigned>& per_worker);

/// Waits until a process sleeps in epoll_wait, as a worker does that has nothing to do.
bool wait_asleep(pid_t process);

/// Stops a child with SIGSTOP and waits until it has stopped.
void stop_process(pid_t child);

}  // namespace lb::test
