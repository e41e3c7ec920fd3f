// SPDX-License-Identifier: MIT
// Which capabilities the program needs, what is said without them, and what SYN cookies do. Each in a child of its own.
#include <gtest/gtest.h>

#include "own_network.hh"
#include "process.hh"
#include "reuseport_group.hh"

namespace lb::test {
namespace {

using Rung = ReuseportProgram::Rung;

class Privilege : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto map = create_worker_pages_map();
    if (map) return;
    if (privileged_required()) FAIL() << map.error().op;
    GTEST_SKIP() << map.error().op;
  }
};

std::string pick_with(std::initializer_list<unsigned> capabilities, Rung rung) {
  if (!keep_only(capabilities)) return "capset";
  ReuseportGroup group;
  if (auto why = group.open(4, rung); !why.empty()) return why;
  for (uint32_t slot : {0, 1, 2}) group.page(slot).in_flight = 1000;
  if (!group.connect_many(10)) return "connect";
  return group.picks(3) == 10 ? "" : "slot 3 was not picked 10 times";
}

TEST_F(Privilege, cap_bpf_alone_is_enough_for_the_low_rung) {
  EXPECT_EQ(in_child([] { return pick_with({CAP_BPF}, Rung::in_flight); }), "");
}

TEST_F(Privilege, cap_bpf_and_perfmon_are_enough_for_the_top_rung) {
  EXPECT_EQ(in_child([] { return pick_with({CAP_BPF, CAP_PERFMON}, Rung::kernel_backlog); }), "");
}

TEST_F(Privilege, without_perfmon_the_low_rung_is_taken_and_the_reason_says_so) {
  EXPECT_EQ(in_child([] { return pick_with({CAP_BPF}, Rung::kernel_backlog); }),
            "kernel's backlog not read: Invalid argument (needs CAP_PERFMON)");
}

TEST_F(Privilege, without_cap_bpf_the_map_is_refused_and_the_error_says_what_is_needed) {
  const std::string said = in_child([]() -> std::string {
    if (!keep_only({CAP_NET_ADMIN, CAP_PERFMON})) return "capset";
    const auto map = create_worker_pages_map();
    return map ? "made" : std::string(map.error().op) + (map.error().code == EPERM ? ": EPERM" : ": not EPERM");
  });
  EXPECT_EQ(said, "create workers' eBPF map (needs CAP_BPF): EPERM");
}

TEST_F(Privilege, without_cap_bpf_load_is_refused_and_the_error_says_what_is_needed) {
  const std::string said = in_child([]() -> std::string {
    const auto map = create_worker_pages_map();
    if (!map || !keep_only({CAP_NET_ADMIN, CAP_PERFMON})) return "capset";
    const auto program = ReuseportProgram::load(map->get(), Rung::kernel_backlog);
    return program ? "loaded" : std::string(program.error().op) + (program.error().code == EPERM ? ": EPERM" : ": not EPERM");
  });
  EXPECT_EQ(said, "load eBPF selection (needs CAP_BPF): EPERM");
}

// A primary loads first and may then drop all it has: attaching and inserting need nothing.
TEST_F(Privilege, sockets_join_after_all_capabilities_are_dropped) {
  EXPECT_EQ(in_child([]() -> std::string {
              ReuseportGroup group;
              if (auto why = group.open(2, Rung::in_flight); !why.empty()) return why;
              if (!keep_only({})) return "capset";
              if (!group.program().attach(group.listener(0))) return "attach";
              if (auto why = group.add_socket(2, SOCK_STREAM); !why.empty()) return why;
              group.settings().slot_count = 3;
              group.set_ready(2, true);
              for (uint32_t slot : {0, 1}) group.page(slot).in_flight = 1000;
              if (!group.connect_many(5)) return "connect";
              return group.picks(2) == 5 ? "" : "slot 2 was not picked 5 times";
            }),
            "");
}

TEST_F(Privilege, nothing_is_printed_when_the_load_fails) {
  EXPECT_EQ(in_child([]() -> std::string {
              UniqueFd file(::memfd_create("stderr", MFD_CLOEXEC));
              if (::dup2(file.get(), STDERR_FILENO) < 0) return "dup2";
              const auto map = create_worker_pages_map();
              if (!map || !keep_only({})) return "capset";
              static_cast<void>(ReuseportProgram::load(map->get(), Rung::kernel_backlog).ok());
              return ::lseek(file.get(), 0, SEEK_END) == 0 ? "" : "something was";
            }),
            "");
}

TEST_F(Privilege, map_of_another_layout_is_refused) {
  const auto program = ReuseportProgram::load(STDIN_FILENO, Rung::in_flight);
  EXPECT_FALSE(program);
}

TEST_F(Privilege, child_that_destroys_its_copy_leaves_the_parents_program_alone) {
  auto group = std::make_unique<ReuseportGroup>();
  if (auto why = group->open(2, Rung::in_flight); !why.empty()) GTEST_SKIP() << why;
  group->page(0).in_flight = 1000;
  EXPECT_EQ(in_child([&] { return group.reset(), std::string(); }), "");
  ASSERT_TRUE(group->connect_many(5));
  EXPECT_EQ(group->picks(1), 5u);
}

// The kernel runs the program for the SYN and again for the ACK. Slots 1 and 3 are to have 10 connections each.
std::string picks_under_syn_cookies(Rung rung, unsigned picks) {
  if (!enter_own_network() || !set_ipv4("tcp_syncookies", "2")) return "own network with SYN cookies";
  ReuseportGroup group;
  if (auto why = group.open(4, rung); !why.empty()) return why;
  for (uint32_t slot : {0, 2}) group.page(slot).in_flight = 1000;
  if (!group.connect_many(20)) return "connect";
  for (int i = 0; i < 10; i++)
    for (uint32_t slot : {1, 3})
      if (!group.accept(slot)) return "slots 1 and 3 do not have 10 connections each";
  const auto made = group.picks(1) + group.picks(3);
  return made == picks ? "" : std::to_string(made) + " picks";
}

TEST_F(Privilege, syn_cookies_connections_are_picked_anew_at_the_ack_by_the_top_rung) {
  EXPECT_EQ(in_child([] { return picks_under_syn_cookies(Rung::kernel_backlog, 40); }), "");
}

TEST_F(Privilege, syn_cookies_connections_follow_their_syn_on_the_low_rung) {
  EXPECT_EQ(in_child([] { return picks_under_syn_cookies(Rung::in_flight, 20); }), "");
}

}  // namespace
}  // namespace lb::test
