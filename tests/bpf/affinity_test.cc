// SPDX-License-Identifier: MIT
// Selectors by who the client is and where its packets are handled, on both rungs: sticky, cpu.
#include <sched.h>

#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "reuseport_group.hh"

namespace lb::test {
namespace {

using ::testing::Each;
using Rung = ReuseportProgram::Rung;

#define OPEN_OR_SKIP(group, ...)                              \
  do {                                                        \
    const std::string why = (group).open(__VA_ARGS__);        \
    if (!why.empty() && privileged_required()) FAIL() << why; \
    if (!why.empty()) GTEST_SKIP() << why;                    \
  } while (false)

constexpr uint32_t kClients = 120;

/// 127.0.1.1, 127.0.1.2, ...: all of 127.0.0.0/8 is this machine.
uint32_t client(uint32_t number) { return (INADDR_LOOPBACK & 0xff000000) + 256 + number; }

class Affinity : public ::testing::TestWithParam<Rung> {
 protected:
  /// The slot of each client.
  std::vector<uint32_t> slots_given() {
    std::vector<uint32_t> slots;
    for (uint32_t number = 1; number <= kClients; number++) slots.push_back(group.slot_given_to(client(number)));
    return slots;
  }

  ReuseportGroup group;
};

INSTANTIATE_TEST_SUITE_P(Rungs, Affinity, ::testing::Values(Rung::kernel_backlog, Rung::in_flight), [](const auto& rung) {
  return std::string(rung.param == Rung::kernel_backlog ? "kernel_backlog" : "in_flight");
});

TEST_P(Affinity, sticky_gives_a_client_the_same_slot_whatever_its_port_and_the_slots_load) {
  OPEN_OR_SKIP(group, 8, GetParam());
  group.settings().selector = LB_SELECT_STICKY;
  const auto first = slots_given();
  for (uint32_t slot = 0; slot < 4; slot++) group.page(slot).in_flight = 1000;
  EXPECT_EQ(slots_given(), first);
}

// 120 clients over 8 slots are 15 each, standard deviation 3.6. The addresses are fixed, so this is not by chance.
TEST_P(Affinity, sticky_spreads_clients_over_all_slots) {
  OPEN_OR_SKIP(group, 8, GetParam());
  group.settings().selector = LB_SELECT_STICKY;
  std::map<uint32_t, int> clients;
  for (const uint32_t slot : slots_given()) clients[slot]++;
  EXPECT_EQ(clients.size(), 8u);
  for (const auto& [slot, count] : clients) EXPECT_NEAR(count, 15, 11) << "slot " << slot;
}

TEST_P(Affinity, sticky_moves_only_the_clients_of_the_slot_that_left_and_back_when_it_returns) {
  OPEN_OR_SKIP(group, 8, GetParam());
  group.settings().selector = LB_SELECT_STICKY;
  const auto before = slots_given();
  group.set_ready(3, false);
  const auto during = slots_given();
  std::set<uint32_t> heirs;
  for (size_t i = 0; i < before.size(); i++) {
    if (before[i] != 3) {
      EXPECT_EQ(during[i], before[i]) << "client " << i;
    } else {
      EXPECT_NE(during[i], 3u);
      heirs.insert(during[i]);
    }
  }
  EXPECT_GE(heirs.size(), 3u) << "one slot inherits nearly all";
  group.set_ready(3, true);
  EXPECT_EQ(slots_given(), before);
}

TEST_P(Affinity, sticky_moves_to_a_new_slot_only_those_that_it_gets) {
  OPEN_OR_SKIP(group, 8, GetParam());
  group.settings().selector = LB_SELECT_STICKY;
  group.set_ready(7, false);
  const auto before = slots_given();
  group.set_ready(7, true);
  const auto after = slots_given();
  int moved = 0;
  for (size_t i = 0; i < before.size(); i++) {
    if (after[i] == before[i]) continue;
    EXPECT_EQ(after[i], 7u);
    moved++;
  }
  EXPECT_GT(moved, 0);
}

TEST_P(Affinity, sticky_uses_slots_beyond_64) {
  OPEN_OR_SKIP(group, 200, GetParam());
  group.settings().selector = LB_SELECT_STICKY;
  const auto slots = slots_given();
  EXPECT_TRUE(std::any_of(slots.begin(), slots.end(), [](uint32_t slot) { return slot >= 64 && slot < 128; }));
  EXPECT_TRUE(std::any_of(slots.begin(), slots.end(), [](uint32_t slot) { return slot >= 128; }));
  EXPECT_EQ(slots_given(), slots);
}

TEST_P(Affinity, sticky_keeps_a_clients_slot_as_its_connection_moves) {
  OPEN_OR_SKIP(group, 8, GetParam());
  group.settings().selector = LB_SELECT_STICKY;
  const uint32_t home = group.slot_given_to(client(1));
  ASSERT_LT(home, 8u);
  while (group.backlog(home) == 0) ::sched_yield();
  group.set_ready(home, false);
  const uint32_t next = group.slot_given_to(client(1));
  ASSERT_EQ(::shutdown(group.listener(home), SHUT_RDWR), 0);
  EXPECT_TRUE(group.accept(next));
  EXPECT_TRUE(group.accept(next)) << "the connection that moved is elsewhere";
}

/// The CPUs that this process may use.
std::vector<unsigned> own_cpus() {
  cpu_set_t set;
  ::sched_getaffinity(0, sizeof(set), &set);
  std::vector<unsigned> cpus;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

/// On loopback the kernel handles a SYN on the CPU that sent it.
class OnCpu {
 public:
  explicit OnCpu(unsigned cpu) {
    ::sched_getaffinity(0, sizeof(before_), &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ::sched_setaffinity(0, sizeof(one), &one);
  }
  OnCpu(const OnCpu&) = delete;
  OnCpu& operator=(const OnCpu&) = delete;
  ~OnCpu() { ::sched_setaffinity(0, sizeof(before_), &before_); }

 private:
  cpu_set_t before_;
};

TEST_P(Affinity, cpu_gives_a_connection_to_a_slot_of_the_cpu_that_handles_its_syn) {
  OPEN_OR_SKIP(group, 130, GetParam());
  group.settings().selector = LB_SELECT_CPU;
  const auto cpus = own_cpus();
  for (const uint32_t slot : {5u, 77u, 129u}) {
    for (const unsigned cpu : cpus) {
      const OnCpu here(cpu);
      group.settings().cpu[slot] = static_cast<uint16_t>(cpu + 1);
      group.page(slot).in_flight = 1000;  // not that this one had the least load
      EXPECT_EQ(group.slot_given_to(client(1)), slot);
    }
    group.settings().cpu[slot] = 0;
  }
}

TEST_P(Affinity, cpu_takes_the_less_loaded_of_two_slots_of_a_cpu) {
  OPEN_OR_SKIP(group, 8, GetParam());
  group.settings().selector = LB_SELECT_CPU;
  const unsigned cpu = own_cpus().front();
  const OnCpu here(cpu);
  for (const uint32_t slot : {2u, 6u}) {
    group.settings().cpu[slot] = static_cast<uint16_t>(cpu + 1);
    group.page(slot).in_flight = slot == 2 ? 5 : 10;
  }
  EXPECT_EQ(group.slot_given_to(client(1)), 2u);
}

TEST_P(Affinity, cpu_falls_to_the_least_loaded_of_all_where_no_ready_slot_is_on_it) {
  OPEN_OR_SKIP(group, 8, GetParam());
  group.settings().selector = LB_SELECT_CPU;
  const unsigned cpu = own_cpus().front();
  const OnCpu here(cpu);
  for (uint32_t slot = 0; slot < 8; slot++) {
    group.settings().cpu[slot] = static_cast<uint16_t>(slot == 4 ? cpu + 1 : cpu + 2);
    group.page(slot).in_flight = slot == 6 ? 0 : 10;
  }
  group.set_ready(4, false);
  EXPECT_EQ(group.slot_given_to(client(1)), 6u);
}

}  // namespace
}  // namespace lb::test
