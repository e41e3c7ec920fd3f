// SPDX-License-Identifier: MIT
// What the eBPF programs cost. First the verifier's account: instructions that it walked (of a million allowed), stack of each
// function, machine code. Then the kernel's own account of one run (BPF_ENABLE_STATS): rung, selector, state of the slots, number of
// slots; nanoseconds, the lower quartile of batches of connects. Needs root. An argument filters the rows of runs.
#include <sys/epoll.h>

#include <algorithm>
#include <cstdio>
#include <random>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "reuseport_group.hh"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wpragmas"
#include "lb_reuseport.skel.h"
#pragma GCC diagnostic pop

using lb::ReuseportProgram;
using lb::UniqueFd;
using lb::test::ReuseportGroup;
using Rung = ReuseportProgram::Rung;

namespace {

constexpr uint32_t kSlots[] = {2, 16, 64, 256};

bool describe(int program, bpf_prog_info& about) {
  uint32_t size = sizeof about;
  about = {};
  return bpf_obj_get_info_by_fd(program, &about, &size) == 0;
}

/// Of the verifier's log, the rest of the line after `key`.
std::string after(const std::string& log, const char* key) {
  const auto found = log.find(key);
  if (found == std::string::npos) return "?";
  const auto begin = found + std::strlen(key);
  return log.substr(begin, log.find('\n', begin) - begin);
}

/// Loads the object's n-th program alone; false after the last.
bool print_verified(size_t n) {
  const std::unique_ptr<lb_reuseport, void (*)(lb_reuseport*)> skeleton(lb_reuseport__open(), lb_reuseport__destroy);
  if (!skeleton) return false;
  std::vector<char> log(1 << 20);
  bpf_program *program = nullptr, *chosen = nullptr;
  for (size_t i = 0; (program = bpf_object__next_program(skeleton->obj, program)) != nullptr; i++) {
    bpf_program__set_autoload(program, i == n);
    if (i == n) chosen = program;
  }
  if (!chosen) return false;
  bpf_program__set_log_buf(chosen, log.data(), log.size());
  bpf_program__set_log_level(chosen, 4);  // BPF_LOG_STATS
  bpf_prog_info about;
  if (lb_reuseport__load(skeleton.get()) != 0 || !describe(bpf_program__fd(chosen), about)) {
    std::printf("%-20s not loaded: %s\n", bpf_program__name(chosen), std::strerror(errno));
    return true;
  }
  std::printf("%-20s %9u %12zu %12u  %s\n", bpf_program__name(chosen), about.verified_insns,
              about.xlated_prog_len / sizeof(bpf_insn), about.jited_prog_len, after(log.data(), "stack depth ").c_str());
  return true;
}

struct Account {
  uint64_t time_ns = 0;
  uint64_t runs = 0;

  double since(const Account& before) const {
    return static_cast<double>(time_ns - before.time_ns) / static_cast<double>(runs - before.runs);
  }
};

/// Of the newest program of ours: the one just loaded.
Account account() {
  Account account;
  bpf_prog_info about;
  for (uint32_t id = 0; bpf_prog_get_next_id(id, &id) == 0;) {
    const UniqueFd fd(bpf_prog_get_fd_by_id(id));
    if (fd && describe(fd.get(), about) && std::string(about.name).rfind("select_", 0) == 0)
      account = {about.run_time_ns, about.run_cnt};
  }
  return account;
}

double lower_quartile(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 4, values.end());
  return values[values.size() / 4];
}

/// Takes what is queued, in the workers' stead.
void accept_queued(ReuseportGroup& group, int epoll, uint32_t most) {
  epoll_event event{};
  for (uint32_t taken = 0; taken < most && ::epoll_wait(epoll, &event, 1, 1000) == 1; taken++) {
    const linger at_once{1, 0};
    UniqueFd connection(::accept4(group.listener(event.data.u32), nullptr, nullptr, SOCK_CLOEXEC));
    ::setsockopt(connection.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    group.page(event.data.u32).cells[0].settled++;
    group.page(event.data.u32).heartbeat++;
  }
}

enum class State { idle, in_flight, queued };

struct Row {
  const char* name;
  Rung rung;
  State state = State::idle;
  lb_selector selector = LB_SELECT_LEAST_LOADED;
};

double connection_cost_ns(const Row& row, uint32_t slots) {
  ReuseportGroup group;
  if (const auto why = group.open(slots, row.rung); !why.empty()) return std::fprintf(stderr, "%s\n", why.c_str()), 0;
  group.settings().selector = row.selector;
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  std::minstd_rand random(1);
  for (uint32_t slot = 0; slot < slots; slot++) {
    epoll_event event{EPOLLIN, {.u32 = slot}};
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, group.listener(slot), &event);
    if (row.state == State::in_flight) group.page(slot).in_flight = static_cast<uint32_t>(random() % 16);
  }
  if (row.state == State::queued && !group.connect_many(static_cast<int>(2 * slots))) return 0;
  std::vector<double> costs;
  for (int batch = 0; batch < 15; batch++) {
    const Account before = account();
    for (int i = 0; i < 200; i++) {
      if (group.connect() < 0) return 0;
      accept_queued(group, epoll.get(), 1);
    }
    costs.push_back(account().since(before));
    if (row.state != State::queued) group.hang_up();
  }
  return lower_quartile(costs);
}

/// Each flow is new, or all datagrams are of one.
double datagram_cost_ns(Rung rung, uint32_t slots, bool known) {
  ReuseportGroup group;
  if (const auto why = group.open(slots, rung, SOCK_DGRAM); !why.empty()) return std::fprintf(stderr, "%s\n", why.c_str()), 0;
  const auto* to = reinterpret_cast<const sockaddr*>(&group.address());
  UniqueFd client(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::vector<double> costs;
  char byte = 0;
  for (int batch = 0; batch < 15; batch++) {
    const Account before = account();
    for (int i = 0; i < 200; i++) {
      if (!known) client.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      if (::sendto(client.get(), &byte, 1, 0, to, sizeof(sockaddr_in)) != 1) return 0;
    }
    costs.push_back(account().since(before));
    for (uint32_t slot = 0; slot < slots; slot++)
      while (::recv(group.listener(slot), &byte, 1, MSG_DONTWAIT) == 1) {
      }
  }
  return lower_quartile(costs);
}

template <class Cost>
void print_row(const std::string& name, const char* filter, const Cost& cost_ns) {
  if (filter && name.find(filter) == std::string::npos) return;
  std::printf("%-42s", name.c_str());
  for (const uint32_t slots : kSlots) {
    std::printf(" %8.0f", cost_ns(slots));
    std::fflush(stdout);
  }
  std::printf("\n");
}

constexpr Row kRows[] = {
    {"kernel_backlog least-loaded, idle", Rung::kernel_backlog},
    {"kernel_backlog least-loaded, in flight", Rung::kernel_backlog, State::in_flight},
    {"kernel_backlog least-loaded, all queued", Rung::kernel_backlog, State::queued},
    {"in_flight least-loaded, idle", Rung::in_flight},
    {"in_flight least-loaded, in flight", Rung::in_flight, State::in_flight},
    {"in_flight least-loaded, all queued", Rung::in_flight, State::queued},
    {"kernel_backlog p2c", Rung::kernel_backlog, State::idle, LB_SELECT_P2C},
    {"in_flight p2c", Rung::in_flight, State::idle, LB_SELECT_P2C},
    {"kernel_backlog hermes", Rung::kernel_backlog, State::idle, LB_SELECT_HERMES},
    {"in_flight hermes", Rung::in_flight, State::idle, LB_SELECT_HERMES},
    {"kernel_backlog random", Rung::kernel_backlog, State::idle, LB_SELECT_RANDOM},
};

}  // namespace

int main(int, char** argv) {
  const UniqueFd accounting(bpf_enable_stats(BPF_STATS_RUN_TIME));
  if (!accounting) return std::perror("bpf_enable_stats (needs root)"), 77;
  libbpf_set_print(nullptr);
  std::printf("%-20s %9s %12s %12s  %s\n", "program", "verified", "instructions", "code bytes", "stack of each function");
  for (size_t n = 0; print_verified(n); n++) {
  }
  std::printf("\n%-42s %8u %8u %8u %8u\n", "ns per run, slots:", kSlots[0], kSlots[1], kSlots[2], kSlots[3]);
  for (const Row& row : kRows) print_row(row.name, argv[1], [&](uint32_t slots) { return connection_cost_ns(row, slots); });
  for (const auto rung : {Rung::kernel_backlog, Rung::in_flight}) {
    for (const bool known : {true, false}) {
      const std::string name = rung == Rung::kernel_backlog ? "kernel_backlog" : "in_flight";
      print_row(name + " datagram, " + (known ? "known flow" : "new flow"), argv[1],
                [&](uint32_t slots) { return datagram_cost_ns(rung, slots, known); });
    }
  }
}
