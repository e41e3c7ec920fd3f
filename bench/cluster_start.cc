// SPDX-License-Identifier: MIT
// How long until all workers listen, beside as many bare forks that listen on a socket they inherit. Medians of interleaved runs.
// cluster_start [WORKERS] [RUNS]. `program` is what loading the eBPF program takes of reuseport's start, as a start of one worker with and
// without it tells; the ratio is without it.
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <lb/lb.hh>
#include <map>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

double bare_ms(unsigned workers) {
  const auto address = lb::Endpoint::parse("tcp://127.0.0.1:0").value();
  const lb::UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int ready[2];
  if (::bind(listener.get(), address.address(), address.length()) != 0 || ::pipe(ready) != 0) std::abort();
  std::vector<pid_t> children;
  const auto start = Clock::now();
  for (unsigned i = 0; i < workers; ++i) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    if (::listen(listener.get(), 511) == 0 && ::write(ready[1], "", 1) == 1) ::pause();
    ::_exit(1);
  }
  for (char byte; workers > 0 && ::read(ready[0], &byte, 1) == 1;) --workers;
  const double took_ms = ms_since(start);
  for (const pid_t child : children) ::kill(child, SIGKILL);
  for (const pid_t child : children) ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
  return took_ms;
}

double liblb_ms(const std::string& policy, unsigned workers) {
  unsigned listening = 0;
  const auto start = Clock::now();
  lb::Options options;
  options.policy = lb::Policy::parse(policy).value();
  options.on_event = [&](const lb::Event& event) { listening += event.kind == lb::Event::Kind::listening; };
  auto cluster = lb::Cluster::create(std::move(options)).value();
  for (unsigned i = 0; i < workers; ++i) {
    const auto spawned = cluster.spawn([](lb::Worker& worker) {
      auto listener = worker.listen("tcp://127.0.0.1:0").value();
      while (listener.accept()) {
      }
      return 0;
    });
    if (!spawned) std::abort();
  }
  while (listening < workers) cluster.poll(std::chrono::milliseconds(-1)).value();
  return ms_since(start);  // the cluster's destructor ends the workers
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned workers = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 64;
  const int runs = argc > 2 ? std::atoi(argv[2]) : 5;
  if (workers < 1 || workers > 128 || runs < 1)
    return std::fprintf(stderr, "usage: cluster_start [WORKERS (1 to 128)] [RUNS]\n"), 2;
  const char* policies[] = {"shared", "reuseport", "reuseport:hash", "round-robin"};
  std::vector<double> bare;
  std::map<std::string, std::vector<double>> all, one;
  for (int run = 0; run < runs; ++run) {
    bare.push_back(bare_ms(workers));
    for (const char* policy : policies) {
      one[policy].push_back(liblb_ms(policy, 1));
      all[policy].push_back(liblb_ms(policy, workers));
    }
  }
  std::printf("%u workers, medians of %d runs, ms\n%-16s %8.1f\n", workers, runs, "bare forks", median(bare));
  const double program_ms = std::max(0.0, median(one["reuseport"]) - median(one["reuseport:hash"]));
  for (const std::string policy : policies) {
    const double program = policy == "reuseport" ? program_ms : 0;
    std::printf("%-16s %8.1f  program %5.1f  ratio %.1f\n", policy.c_str(), median(all[policy]), program,
                (median(all[policy]) - program) / median(bare));
  }
}
