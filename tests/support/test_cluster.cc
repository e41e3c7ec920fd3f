// SPDX-License-Identifier: MIT
#include "test_cluster.hh"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <numeric>

namespace lb::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// When a test that waits for what never comes gives up. It decides about no test that passes.
std::chrono::seconds patience() {
  const char* text = std::getenv("LB_TEST_PATIENCE_S");
  return std::chrono::seconds(text != nullptr ? std::atoi(text) : 60);
}

/// Some conditions are met in shared memory, which nobody can poll: look again after so long.
constexpr milliseconds kLook{10};

#ifdef SYS_epoll_wait
constexpr long kEpollWait = SYS_epoll_wait;
#else
constexpr long kEpollWait = SYS_epoll_pwait;
#endif

/// Waits until something may have changed.
void wait_for_change(int cluster, Crowd* crowd, const Load* load) {
  std::vector<pollfd> interests;
  if (cluster >= 0) interests.push_back({.fd = cluster, .events = POLLIN, .revents = 0});
  if (load != nullptr && !load->over()) interests.push_back({.fd = load->pidfd(), .events = POLLIN, .revents = 0});
  if (crowd != nullptr) {
    for (const auto& client : *crowd) {
      if (!client.over()) interests.push_back(client.interest());
    }
  }
  ::poll(interests.data(), interests.size(), kLook.count());
}

const char* name_of(Event::Kind kind) noexcept {
  switch (kind) {
    case Event::Kind::spawned:
      return "spawned";
    case Event::Kind::online:
      return "online";
    case Event::Kind::listening:
      return "listening";
    case Event::Kind::draining:
      return "draining";
    case Event::Kind::disconnected:
      return "disconnected";
    case Event::Kind::exit:
      return "exit";
    case Event::Kind::crash_loop:
      return "crash_loop";
    case Event::Kind::roll_begun:
      return "roll_begun";
    case Event::Kind::roll_step:
      return "roll_step";
    case Event::Kind::roll_done:
      return "roll_done";
    case Event::Kind::policy_changed:
      return "policy_changed";
    case Event::Kind::policy_not_changed:
      return "policy_not_changed";
    case Event::Kind::roll_failed:
      return "roll_failed";
    case Event::Kind::stranger:
      return "stranger";
    case Event::Kind::program_restored:
      return "program_restored";
    case Event::Kind::upgrade_begun:
      return "upgrade_begun";
    case Event::Kind::upgrade_failed:
      return "upgrade_failed";
    case Event::Kind::upgrade_done:
      return "upgrade_done";
    case Event::Kind::took_over:
      return "took_over";
  }
  return "?";
}

}  // namespace

TestCluster::TestCluster(Setting setting, Options options) : kind_(setting.kind) {
  const auto parsed = Policy::parse(setting.policy);
  if (!parsed) {
    ADD_FAILURE() << parsed.error().message();
    return;
  }
  options.policy = *parsed;
  options.on_event = [this, asked = options.on_event](const Event& event) {
    Seen seen{event, {}};
    if (event.endpoint != nullptr) seen.at = *event.endpoint;
    seen.endpoint = nullptr;
    events_.push_back(std::move(seen));
    if (asked) asked(event);
  };
  auto cluster = Cluster::create(std::move(options));
  if (!cluster) {
    ADD_FAILURE() << cluster.error().message();
    return;
  }
  cluster_.emplace(*std::move(cluster));
}

TestCluster::~TestCluster() = default;

Result<uint32_t> TestCluster::spawn(const Program& program, const std::string& argument) {
  if (kind_ == WorkerKind::command) return cluster_->spawn(program.command(board_, argument));
  return spawn(program.function(*board_, argument));
}

Result<uint32_t> TestCluster::spawn(const WorkerFunction& function) {
  if (kind_ == WorkerKind::command) return Error{EINVAL, "a test of commands needs a Program"};
  return kind_ == WorkerKind::thread ? cluster_->spawn_thread(function) : cluster_->spawn(function);
}

bool TestCluster::start(unsigned count, const Program& program, const std::string& argument, unsigned endpoints) {
  return start(
      count, [&] { return spawn(program, argument); }, endpoints);
}

bool TestCluster::start(unsigned count, const WorkerFunction& function, unsigned endpoints) {
  return start(
      count, [&] { return spawn(function); }, endpoints);
}

bool TestCluster::start(unsigned count, const std::function<Result<uint32_t>()>& spawn_one, unsigned endpoints) {
  if (!made()) return false;
  const unsigned before = this->count(Event::Kind::listening);
  for (unsigned i = 0; i < count; ++i) {
    if (const auto id = spawn_one(); !id) {
      ADD_FAILURE() << id.error().message();
      return false;
    }
  }
  return wait_until("the workers to listen",
                    [&] { return this->count(Event::Kind::listening) - before >= count * endpoints || board_->failures != 0; });
}

bool TestCluster::start(unsigned count, Style style, const std::string& endpoint) {
  return start(count, kAnswering, answering_argument(style, endpoint));
}

bool TestCluster::wait_until(const char* what, const std::function<bool()>& so, Crowd* crowd, const Load* load) {
  const auto begin = steady_clock::now();
  while (true) {
    if (const auto polled = cluster_->poll(milliseconds(0)); !polled) {
      ADD_FAILURE() << "poll: " << polled.error().message();
      return false;
    }
    if (crowd != nullptr) crowd->step();
    if (so()) return true;
    if (steady_clock::now() - begin > patience()) break;
    wait_for_change(cluster_->fd(), crowd, load);
  }
  ADD_FAILURE() << "waited in vain for " << what << "\n"
                << describe() << (crowd != nullptr ? crowd->describe() : "") << (load != nullptr ? load->describe() : "");
  return false;
}

bool TestCluster::occupy(Crowd& crowd, unsigned workers) {
  crowd.connect(address(), size_t{12} * workers);  // so many that chance leaves no worker out
  return wait_until(
      "every worker to be busy and the rest to wait",
      [&] { return crowd.greeted() == workers && crowd.count(Client::State::connecting) == 0; }, &crowd);
}

bool TestCluster::hold_one_by_one(Crowd& crowd, size_t clients) {
  for (size_t i = 0; i < clients; ++i) {
    if (!at_rest()) return false;
    crowd.connect(address(), 1);
    if (!wait_greeted(crowd)) return false;
  }
  return true;
}

bool TestCluster::at_rest() const {
  const auto workers = cluster_->workers();
  return std::all_of(workers.begin(), workers.end(), [](const WorkerStatus& worker) {
    return worker.kind == WorkerKind::thread || worker.state != WorkerState::listening || wait_asleep(worker.pid);
  });
}

void TestCluster::expect_serves(size_t clients) {
  Crowd crowd;
  crowd.connect(address(), clients);
  crowd.ask_all();
  EXPECT_TRUE(wait_finished(crowd));
}

bool TestCluster::wait_greeted(Crowd& crowd) {
  return wait_until(
      "every client to be greeted", [&] { return crowd.greeted() == crowd.size(); }, &crowd);
}

bool TestCluster::wait_finished(Crowd& crowd) {
  return wait_until(
      "every client to be served", [&] { return crowd.all(Client::State::finished); }, &crowd);
}

bool TestCluster::wait_over(const Load& load) {
  return wait_until(
      "the load to end", [&] { return load.over(); }, nullptr, &load);
}

bool TestCluster::wait_exit(uint32_t worker) {
  return wait_until("the worker to exit", [&] { return event(Event::Kind::exit, worker) != nullptr; });
}

bool TestCluster::shut_down() {
  cluster_->shutdown();
  return wait_until("the shutdown", [&] { return cluster_->done(); });
}

void TestCluster::expect_clean_shutdown() {
  EXPECT_TRUE(shut_down());
  EXPECT_EQ(cluster_->exit_code(), 0);
  EXPECT_EQ(board_->failures, 0u) << board_->text.data();
}

Endpoint TestCluster::address() const { return endpoint().address; }

EndpointStatus TestCluster::endpoint() const {
  const auto status = cluster_->status();
  if (!status.endpoints.empty()) return status.endpoints.front();
  ADD_FAILURE() << "no endpoint\n" << describe();
  return {};
}

uint32_t TestCluster::untaken() const {
  uint32_t sum = 0;
  for (const auto& load : endpoint().workers) sum += load.backlog;
  return sum;
}

WorkerStatus TestCluster::worker(uint32_t id) const {
  for (const auto& worker : cluster_->status().workers) {
    if (worker.id == id) return worker;
  }
  ADD_FAILURE() << "no worker " << id << "\n" << describe();
  return {};
}

unsigned TestCluster::count(Event::Kind kind) const noexcept {
  const auto n = std::count_if(events_.begin(), events_.end(), [&](const Seen& seen) { return seen.kind == kind; });
  return static_cast<unsigned>(n);
}

const Seen* TestCluster::event(Event::Kind kind, uint32_t worker) const noexcept {
  const auto found =
      std::find_if(events_.begin(), events_.end(), [&](const Seen& seen) { return seen.kind == kind && seen.worker == worker; });
  return found == events_.end() ? nullptr : &*found;
}

std::string TestCluster::describe() const {
  std::string text = cluster_->status().to_string() + "\nevents:";
  const size_t shown = std::min<size_t>(events_.size(), 40);
  for (size_t i = events_.size() - shown; i < events_.size(); ++i) {
    const auto& seen = events_[i];
    text += " " + std::to_string(seen.worker) + ":" + name_of(seen.kind);
    if (seen.kind == Event::Kind::exit) {
      text += "(" + std::to_string(seen.exit_code) + "," + std::to_string(seen.signal) + ")";
    }
  }
  text += "\n";
  if (board_->failures != 0) text += std::string("a worker said: ") + board_->text.data() + "\n";
  return text;
}

bool wait_until(const char* what, const std::function<bool()>& so, Crowd* crowd) {
  const auto begin = steady_clock::now();
  while (steady_clock::now() - begin < patience()) {
    if (crowd != nullptr) crowd->step();
    if (so()) return true;
    wait_for_change(-1, crowd, nullptr);
  }
  ADD_FAILURE() << "waited in vain for " << what << "\n" << (crowd != nullptr ? crowd->describe() : "");
  return false;
}

double max_over_mean(const std::vector<unsigned>& per_worker, uint32_t first, uint32_t last) {
  std::vector<unsigned> of;
  for (uint32_t id = first; id <= last; ++id) of.push_back(id < per_worker.size() ? per_worker[id] : 0);
  if (*std::min_element(of.begin(), of.end()) == 0) return 0;
  const double mean = std::accumulate(of.begin(), of.end(), 0.0) / static_cast<double>(of.size());
  return *std::max_element(of.begin(), of.end()) / mean;
}

std::string shares(const std::vector<unsigned>& per_worker) {
  std::string text;
  for (size_t id = 0; id < per_worker.size(); ++id) {
    if (per_worker[id] != 0) text += (text.empty() ? "worker " : ", ") + std::to_string(id) + ": " + std::to_string(per_worker[id]);
  }
  return text;
}

bool wait_asleep(pid_t process) {
  return wait_until("the process to sleep in epoll_wait", [&] {
    std::ifstream file("/proc/" + std::to_string(process) + "/syscall");
    long number = -1;  // or "running"
    return file >> number && number == kEpollWait;
  });
}

void stop_process(pid_t child) {
  ASSERT_EQ(::kill(child, SIGSTOP), 0);
  siginfo_t stopped{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &stopped, WSTOPPED | WNOWAIT), 0);
}

}  // namespace lb::test
