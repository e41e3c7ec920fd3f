// SPDX-License-Identifier: MIT
// What one pick costs in the kernel, by the kernel's own account (BPF_ENABLE_STATS): rung, state of the slots, number of slots.
// Not a test. Prints nanoseconds per run of the program, the lower quartile of batches of connects.
#include <sys/epoll.h>

#include <algorithm>
#include <cstdio>
#include <random>

#include <bpf/bpf.h>

#include "reuseport_group.hh"

using lb::ReuseportProgram;
using lb::UniqueFd;
using lb::test::ReuseportGroup;

namespace {

struct Account {
  uint64_t time_ns = 0;
  uint64_t runs = 0;
};

/// Of the newest program whose name begins so: the one just loaded. The kernel keeps 15 characters of a name.
Account account_of(const std::string& name) {
  Account account;
  for (uint32_t id = 0; bpf_prog_get_next_id(id, &id) == 0;) {
    UniqueFd fd(bpf_prog_get_fd_by_id(id));
    bpf_prog_info program{};
    uint32_t size = sizeof(program);
    if (!fd || bpf_obj_get_info_by_fd(fd.get(), &program, &size) != 0 ||
        std::string(program.name).rfind(name.substr(0, 13), 0) != 0)
      continue;
    account = {program.run_time_ns, program.run_cnt};
  }
  return account;
}

/// Takes what is queued, in the workers' stead.
void accept_queued(ReuseportGroup& group, int epoll, uint32_t most) {
  epoll_event event{};
  for (uint32_t taken = 0; taken < most && ::epoll_wait(epoll, &event, 1, 1000) == 1; taken++) {
    const linger at_once{1, 0};
    UniqueFd connection(::accept4(group.listener(event.data.u32), nullptr, nullptr, SOCK_CLOEXEC));
    ::setsockopt(connection.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    group.page(event.data.u32).cells[0].settled++;
  }
}

enum class State { idle, in_flight, queued };

/// Of batches of datagrams; each flow is new, or all are of one.
double datagram_cost_ns(ReuseportProgram::Rung rung, uint32_t slots, bool known) {
  ReuseportGroup group;
  if (const auto why = group.open(slots, rung, SOCK_DGRAM); !why.empty()) return std::fprintf(stderr, "%s\n", why.c_str()), 0;
  const char* program_name = rung == ReuseportProgram::Rung::kernel_backlog ? "select_flow_kernel" : "select_flow";
  const auto* to = reinterpret_cast<const sockaddr*>(&group.address());
  UniqueFd client(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::vector<double> costs;
  char byte = 0;
  for (int batch = 0; batch < 15; batch++) {
    const Account before = account_of(program_name);
    for (int i = 0; i < 200; i++) {
      if (!known) client.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      if (::sendto(client.get(), &byte, 1, 0, to, sizeof(sockaddr_in)) != 1) return 0;
    }
    const Account after = account_of(program_name);
    costs.push_back(static_cast<double>(after.time_ns - before.time_ns) / static_cast<double>(after.runs - before.runs));
    for (uint32_t slot = 0; slot < slots; slot++)
      while (::recv(group.listener(slot), &byte, 1, MSG_DONTWAIT) == 1) {
      }
  }
  std::nth_element(costs.begin(), costs.begin() + costs.size() / 4, costs.end());
  return costs[costs.size() / 4];
}

double cost_ns(ReuseportProgram::Rung rung, State state, uint32_t slots, lb_selector selector) {
  ReuseportGroup group;
  if (const auto why = group.open(slots, rung); !why.empty()) return std::fprintf(stderr, "%s\n", why.c_str()), 0;
  group.settings().selector = selector;
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  std::minstd_rand random(1);
  for (uint32_t slot = 0; slot < slots; slot++) {
    epoll_event event{EPOLLIN, {.u32 = slot}};
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, group.listener(slot), &event);
    if (state == State::in_flight) group.page(slot).in_flight = static_cast<uint32_t>(random() % 16);
  }
  if (state == State::queued && !group.connect_many(static_cast<int>(2 * slots))) return 0;
  const char* program_name = rung == ReuseportProgram::Rung::kernel_backlog ? "select_kernel" : "select_scoreboard";
  std::vector<double> costs;
  for (int batch = 0; batch < 15; batch++) {
    const Account before = account_of(program_name);
    for (int i = 0; i < 200; i++) {
      if (group.connect() < 0) return 0;
      accept_queued(group, epoll.get(), 1);
    }
    const Account after = account_of(program_name);
    costs.push_back(static_cast<double>(after.time_ns - before.time_ns) / static_cast<double>(after.runs - before.runs));
    if (state != State::queued) group.hang_up();
  }
  std::nth_element(costs.begin(), costs.begin() + costs.size() / 4, costs.end());
  return costs[costs.size() / 4];
}

}  // namespace

int main(int, char** argv) {
  UniqueFd accounting(bpf_enable_stats(BPF_STATS_RUN_TIME));
  if (!accounting) return std::perror("bpf_enable_stats"), 77;
  const struct {
    const char* name;
    ReuseportProgram::Rung rung;
    State state;
    lb_selector selector;
  } cases[] = {
      {"kernel_backlog least-loaded, idle", ReuseportProgram::Rung::kernel_backlog, State::idle, LB_SELECT_LEAST_LOADED},
      {"kernel_backlog least-loaded, in flight", ReuseportProgram::Rung::kernel_backlog, State::in_flight, LB_SELECT_LEAST_LOADED},
      {"kernel_backlog least-loaded, all queued", ReuseportProgram::Rung::kernel_backlog, State::queued, LB_SELECT_LEAST_LOADED},
      {"in_flight least-loaded, idle", ReuseportProgram::Rung::in_flight, State::idle, LB_SELECT_LEAST_LOADED},
      {"in_flight least-loaded, in flight", ReuseportProgram::Rung::in_flight, State::in_flight, LB_SELECT_LEAST_LOADED},
      {"in_flight least-loaded, all queued", ReuseportProgram::Rung::in_flight, State::queued, LB_SELECT_LEAST_LOADED},
      {"kernel_backlog p2c", ReuseportProgram::Rung::kernel_backlog, State::idle, LB_SELECT_P2C},
      {"in_flight p2c", ReuseportProgram::Rung::in_flight, State::idle, LB_SELECT_P2C},
      {"random", ReuseportProgram::Rung::in_flight, State::idle, LB_SELECT_RANDOM},
  };
  std::printf("%-42s %8s %8s %8s %8s\n", "ns per pick, slots:", "2", "16", "64", "256");
  for (const auto& c : cases) {
    if (argv[1] && !std::strstr(c.name, argv[1])) continue;
    std::printf("%-42s", c.name);
    for (const uint32_t slots : {2u, 16u, 64u, 256u}) {
      std::printf(" %8.0f", cost_ns(c.rung, c.state, slots, c.selector));
      std::fflush(stdout);
    }
    std::printf("\n");
  }
  for (const auto rung : {ReuseportProgram::Rung::kernel_backlog, ReuseportProgram::Rung::in_flight}) {
    for (const bool known : {true, false}) {
      const std::string name = std::string(rung == ReuseportProgram::Rung::kernel_backlog ? "kernel_backlog" : "in_flight") +
                               " datagram, " + (known ? "known flow" : "new flow");
      if (argv[1] && name.find(argv[1]) == std::string::npos) continue;
      std::printf("%-42s", name.c_str());
      for (const uint32_t slots : {2u, 16u, 64u, 256u}) std::printf(" %8.0f", datagram_cost_ns(rung, slots, known));
      std::printf("\n");
    }
  }
}
