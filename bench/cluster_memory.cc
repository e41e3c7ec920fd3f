// SPDX-License-Identifier: MIT
// What memory a cluster takes: cluster_memory queued [WORKERS] [CONNECTIONS]: with so many waiting and nobody taking them; cluster_memory growth
// [WORKERS] [CONNECTIONS]: before and after serving so many. In KiB, of the kernel's account (proc(5), smaps_rollup): the primary's
// resident set, and what a worker has beyond a bare fork of the same process, private to it, on average.
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <lb/lb.hh>
#include <string>
#include <vector>

namespace {

constexpr unsigned kClients = 4;  // processes

/// The sum of these fields of a process, in KiB.
long kib_of(pid_t pid, std::initializer_list<const char*> fields) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/smaps_rollup");
  long sum = 0;
  for (std::string line; std::getline(file, line);)
    for (const std::string field : fields)
      if (line.rfind(field + ":", 0) == 0) sum += std::atol(line.c_str() + field.size() + 1);
  return sum;
}
long resident_kib(pid_t pid) { return kib_of(pid, {"Rss"}); }
long private_kib(pid_t pid) { return kib_of(pid, {"Private_Clean", "Private_Dirty"}); }

long bare_fork_kib() {
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  const long kib = private_kib(child);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return kib;
}

lb::UniqueFd connect_to(const lb::Endpoint& server) {
  lb::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), server.address(), server.length()) != 0) fd.reset();
  return fd;
}

/// Client processes that connect so often in all; `hold`: and keep the connections, else wait until the server closes.
std::vector<pid_t> start_clients(const lb::Endpoint& server, unsigned connections, bool hold) {
  std::vector<pid_t> clients;
  for (unsigned i = 0; i < kClients; ++i) {
    clients.push_back(::fork());
    if (clients.back() != 0) continue;
    ::close_range(3, ~0U, 0);
    std::vector<lb::UniqueFd> held;
    for (unsigned n = i; n < connections; n += kClients) {
      lb::UniqueFd fd = connect_to(server);
      char byte = 0;
      if (!fd || (!hold && ::recv(fd.get(), &byte, 1, 0) != 0)) ::_exit(1);
      if (hold) held.push_back(std::move(fd));
    }
    if (hold) ::kill(::getpid(), SIGSTOP);
    ::_exit(0);
  }
  return clients;
}

/// Until every client has done its part: it has ended, or stopped. False if one failed.
bool wait_for(const std::vector<pid_t>& clients, lb::Cluster& cluster) {
  bool good = true;
  for (const pid_t client : clients) {
    int status = 0;
    while (::waitpid(client, &status, WUNTRACED | WNOHANG) == 0) (void)cluster.poll(std::chrono::milliseconds(1));
    good &= WIFSTOPPED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  return good;
}

void print(const char* when, const lb::Cluster& cluster, long bare_kib) {
  long workers_kib = 0;
  const auto workers = cluster.workers();
  for (const auto& worker : workers) workers_kib += private_kib(worker.pid) - bare_kib;
  std::printf("  %-8s primary %6ld KiB  worker %5ld KiB\n", when, resident_kib(::getpid()),
              workers_kib / static_cast<long>(workers.size()));
}

bool measure(const std::string& policy, unsigned workers, unsigned connections, bool growth) {
  const long bare_kib = bare_fork_kib();
  unsigned listening = 0;
  lb::Options options;
  options.policy = lb::Policy::parse(policy).value();
  options.on_event = [&](const lb::Event& event) { listening += event.kind == lb::Event::Kind::listening; };
  auto cluster = lb::Cluster::create(std::move(options)).value();
  const lb::ListenOptions deep{.backlog = static_cast<int>(connections)};
  for (unsigned i = 0; i < workers; ++i) {
    cluster
        .spawn([=](lb::Worker& worker) {
          auto listener = worker.listen("tcp://127.0.0.1:0", deep).value();
          if (!growth) ::pause();
          while (listener.accept()) {
          }
          return 0;
        })
        .value();
  }
  while (listening < workers) cluster.poll(std::chrono::milliseconds(-1)).value();
  std::printf("%s, %u workers, %u connections %s\n", policy.c_str(), workers, connections, growth ? "served" : "queued");
  print("before", cluster, bare_kib);
  const auto clients = start_clients(cluster.status().endpoints.front().address, connections, !growth);
  const bool good = wait_for(clients, cluster);
  print(growth ? "after" : "queued", cluster, bare_kib);
  for (const pid_t client : clients) ::kill(client, SIGKILL);
  for (const pid_t client : clients) ::waitpid(client, nullptr, 0);
  if (!good)
    std::fprintf(stderr, "cluster_memory: a client could not connect (net.core.somaxconn and `ulimit -n` bound the queue)\n");
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const bool growth = what == "growth";
  const auto workers = static_cast<unsigned>(argc > 2 ? std::atoi(argv[2]) : growth ? 4 : 64);
  const auto connections = static_cast<unsigned>(argc > 3 ? std::atoi(argv[3]) : growth ? 100'000 : 10'000);
  if ((what != "queued" && !growth) || workers < 1 || workers > 128 || connections < 1)
    return std::fprintf(stderr, "usage: cluster_memory queued|growth [WORKERS (1 to 128)] [CONNECTIONS]\n"), 2;
  bool good = true;
  for (const char* policy : {"shared", "reuseport", "round-robin"}) good &= measure(policy, workers, connections, growth);
  return good ? 0 : 1;
}
