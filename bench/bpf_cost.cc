// SPDX-License-Identifier: MIT
// What the eBPF programs cost. First the verifier's account: instructions that it walked (of a million allowed), stack of each
// function, machine code. Then the kernel's own account of one run (BPF_ENABLE_STATS): rung, selector, state of the slots, number of
// slots; nanoseconds, the lower quartile of batches of connects. Needs root. An argument filters the rows of runs.
#include <algorithm>
#include <cstdio>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "picked_group.hh"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wpragmas"
#include "lb_reuseport.skel.h"
#pragma GCC diagnostic pop

using namespace lb::bench;
using lb::UniqueFd;
using lb::test::ReuseportGroup;

namespace {

constexpr uint32_t kSlots[] = {2, 16, 64, 256};

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

double lower_quartile(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 4, values.end());
  return values[values.size() / 4];
}

struct Row {
  const char* name;
  Rung rung;
  State state = State::idle;
  lb_selector selector = LB_SELECT_LEAST_LOADED;
};

double connection_cost_ns(const Row& row, uint32_t slots) {
  PickedGroup group(row.rung, slots, row.state);
  if (!group.error().empty()) return std::fprintf(stderr, "%s\n", group.error().c_str()), 0;
  group.sockets().settings().selector = row.selector;
  std::vector<double> costs;
  for (int batch = 0; batch < 15; batch++) {
    const Account before = account();
    for (int i = 0; i < 200; i++)
      if (!group.pick()) return 0;
    costs.push_back(account().since(before));
    if (row.state != State::queued) group.sockets().hang_up();
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
