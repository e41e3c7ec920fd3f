// SPDX-License-Identifier: MIT
// Where the datagrams of a flow go, on both rungs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "process.hh"
#include "reuseport_group.hh"

namespace lb::test {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using Rung = ReuseportProgram::Rung;

/// One client: a socket with a port of its own on 127.0.0.`source`, so a flow.
class Flow {
 public:
  explicit Flow(const ReuseportGroup& group, uint8_t source = 1) : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_in from{AF_INET, 0, {htonl(0x7f000000U + source)}, {}};
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&from), sizeof(from)), 0);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&group.address()), sizeof(sockaddr_in)), 0);
  }
  void send() const { EXPECT_EQ(::send(fd_.get(), "x", 1, 0), 1); }

 private:
  UniqueFd fd_;
};

std::vector<Flow> begin_flows(const ReuseportGroup& group, int n, uint8_t source = 1) {
  std::vector<Flow> flows;
  for (int i = 0; i < n; i++) flows.emplace_back(group, source).send();
  return flows;
}

class FlowTable : public ::testing::TestWithParam<Rung> {
 protected:
  /// Empty if it can be run here.
  std::string open(uint32_t slots, uint32_t flows_max = 65536) { return group.open(slots, GetParam(), SOCK_DGRAM, flows_max); }
  /// Datagrams in the slot's queue, taken out.
  int taken(uint32_t slot) {
    char byte;
    int n = 0;
    while (::recv(group.listener(slot), &byte, 1, MSG_DONTWAIT) == 1) n++;
    return n;
  }
  /// The slot that the flow's next datagram arrives at.
  uint32_t slot_of(const Flow& flow, uint32_t slots) {
    for (uint32_t slot = 0; slot < slots; slot++) taken(slot);
    flow.send();
    for (uint32_t slot = 0; slot < slots; slot++)
      if (taken(slot) == 1) return slot;
    ADD_FAILURE() << "it arrived nowhere";
    return slots;
  }

  ReuseportGroup group;
};

std::string rung_name(const ::testing::TestParamInfo<Rung>& info) {
  return info.param == Rung::kernel_backlog ? "kernel_backlog" : "in_flight";
}

INSTANTIATE_TEST_SUITE_P(Rungs, FlowTable, ::testing::Values(Rung::kernel_backlog, Rung::in_flight), rung_name);

#define OPEN_OR_SKIP(...)                                     \
  do {                                                        \
    const std::string why = open(__VA_ARGS__);                \
    if (!why.empty() && privileged_required()) FAIL() << why; \
    if (!why.empty()) GTEST_SKIP() << why;                    \
  } while (false)

TEST_P(FlowTable, N39_new_flow_goes_to_the_least_loaded_slot) {
  OPEN_OR_SKIP(4);
  for (uint32_t slot : {0, 1, 3}) group.page(slot).in_flight = 100;
  const auto flows = begin_flows(group, 5);
  EXPECT_THAT(group.all_picks(), ElementsAre(0, 0, 5, 0));
  EXPECT_EQ(taken(2), 5);
}

TEST_P(FlowTable, N39_known_flow_sticks_to_its_slot_whatever_the_load) {
  OPEN_OR_SKIP(4);
  for (uint32_t slot : {0, 1, 3}) group.page(slot).in_flight = 100;
  const auto flows = begin_flows(group, 5);
  group.page(2).in_flight = 10'000;
  for (uint32_t slot : {0, 1, 3}) group.page(slot).in_flight = 0;
  for (const auto& flow : flows) flow.send();
  EXPECT_EQ(taken(2), 10);
  EXPECT_EQ(group.exits(LB_EXIT_KNOWN), 5u);
  EXPECT_EQ(group.exits(LB_EXIT_PICKED), 5u);
}

// What waits counts too on the top rung, so the queues are emptied. A window may end in between: the flows of the last count too.
TEST_P(FlowTable, N39_flows_are_spread_evenly_though_no_worker_charges_them) {
  OPEN_OR_SKIP(8);
  std::vector<Flow> flows;
  for (int i = 0; i < 64; i++) {
    flows.emplace_back(group).send();
    for (uint32_t slot = 0; slot < 8; slot++) taken(slot);
  }
  EXPECT_THAT(group.all_picks(), Each(8));
}

TEST_P(FlowTable, flow_that_fell_silent_no_longer_counts) {
  OPEN_OR_SKIP(2);
  group.set_ready(1, false);
  const auto silent = begin_flows(group, 16);
  taken(0);
  group.set_ready(1, true);
  group.page(1).in_flight = 4;
  for (int i = 0; i < 2000 && group.picks(0) == 16; i++) {
    Flow(group).send();
    taken(0);
    taken(1);
    ::poll(nullptr, 0, 5);                             // time has to pass here: two windows of a second
    if (i % 100 == 0) group.page(1).in_flight += 400;  // its own flows do not decide
  }
  EXPECT_EQ(group.picks(0), 17u);
}

TEST_P(FlowTable, flow_that_goes_on_speaking_goes_on_counting) {
  OPEN_OR_SKIP(2);
  group.set_ready(1, false);
  const auto steady = begin_flows(group, 16);
  group.set_ready(1, true);
  for (int i = 0; i < 500; i++) {
    for (const auto& flow : steady) flow.send();
    taken(0);
    ::poll(nullptr, 0, 5);  // more than two windows
  }
  EXPECT_EQ(group.picks(0) + group.picks(1), 16u);
  for (int i = 0; i < 8; i++) {
    Flow(group).send();
    taken(1);
  }
  EXPECT_THAT(group.all_picks(), ElementsAre(16, 8));
}

TEST_P(FlowTable, N39_flow_of_a_slot_that_is_not_ready_any_more_moves_and_stays_there) {
  OPEN_OR_SKIP(3);
  const Flow flow(group);
  const uint32_t first = slot_of(flow, 3);
  group.set_ready(first, false);
  const uint32_t second = slot_of(flow, 3);
  EXPECT_NE(second, first);
  EXPECT_EQ(group.exits(LB_EXIT_MOVED), 1u);
  group.set_ready(first, true);
  group.page(second).in_flight = 100;
  for (int i = 0; i < 5; i++) EXPECT_EQ(slot_of(flow, 3), second);
}

TEST_P(FlowTable, flow_of_a_worker_whose_slot_has_another_worker_is_placed_anew) {
  OPEN_OR_SKIP(2);
  group.page(1).in_flight = 100;
  const Flow flow(group);
  EXPECT_EQ(slot_of(flow, 2), 0u);
  group.page(0).worker_id = 7;  // a replacement, which is busy
  group.page(0).in_flight = 200;
  EXPECT_EQ(slot_of(flow, 2), 1u);
  EXPECT_EQ(group.exits(LB_EXIT_MOVED), 1u);
}

TEST_P(FlowTable, N39_table_keeps_its_bound_under_more_flows_than_it_has_room_for) {
  constexpr uint32_t kRoom = 1024;
  OPEN_OR_SKIP(4, kRoom);
  const auto first = begin_flows(group, 256, 2);
  for (uint8_t source = 3; source < 18; source++) {  // each round from another address: ports come again
    const auto flows = begin_flows(group, 256, source);
    for (uint32_t slot = 0; slot < 4; slot++) EXPECT_GT(taken(slot), 0) << "slot " << slot << " from 127.0.0." << int{source};
  }
  EXPECT_EQ(group.exits(LB_EXIT_PICKED), 4096u) << "each was placed, though most had to leave the table";
  const Flow latest(group);
  const uint32_t slot = slot_of(latest, 4);
  EXPECT_EQ(slot_of(latest, 4), slot);
  EXPECT_EQ(group.exits(LB_EXIT_KNOWN), 1u) << "the latest is known";
  for (const auto& flow : first) flow.send();
  EXPECT_LT(group.exits(LB_EXIT_KNOWN), 128u) << "the first have been forgotten";
}

TEST_P(FlowTable, slot_0_queues_when_none_is_ready_and_keeps_no_flow) {
  OPEN_OR_SKIP(2);
  for (uint32_t slot : {0, 1}) group.set_ready(slot, false);
  const Flow flow(group);
  EXPECT_EQ(slot_of(flow, 2), 0u);
  EXPECT_EQ(group.exits(LB_EXIT_NO_READY), 1u);
  group.set_ready(1, true);
  EXPECT_EQ(slot_of(flow, 2), 1u);
}

TEST_P(FlowTable, p2c_and_random_place_a_flow_once) {
  OPEN_OR_SKIP(8);
  for (const lb_selector selector : {LB_SELECT_P2C, LB_SELECT_RANDOM}) {
    group.settings().selector = selector;
    const Flow flow(group);
    const uint32_t slot = slot_of(flow, 8);
    for (int i = 0; i < 20; i++) EXPECT_EQ(slot_of(flow, 8), slot);
  }
}

TEST_P(FlowTable, nonsense_from_a_worker_harms_only_its_own_slot) {
  OPEN_OR_SKIP(4);
  group.page(1).in_flight = UINT32_MAX;
  group.page(1).reported = UINT32_MAX;
  const auto flows = begin_flows(group, 30);
  group.page(1).worker_id = UINT32_MAX;
  for (const auto& flow : flows) flow.send();
  EXPECT_EQ(group.picks(1), 0u);
  EXPECT_EQ(group.exits(LB_EXIT_KNOWN), 30u);
}

TEST_P(FlowTable, nonsense_settings_do_not_refuse_datagrams) {
  OPEN_OR_SKIP(2);
  group.settings().slot_count = UINT32_MAX;
  group.settings().selector = UINT32_MAX;
  for (__u64& word : group.settings().ready) word = UINT64_MAX;
  const auto flows = begin_flows(group, 20);
  EXPECT_EQ(taken(0) + taken(1), 20);
}

// The queue of a worker that does not come for it keeps new flows away, on the rung that can see it.
TEST(FlowTableTopRung, waiting_datagrams_count) {
  ReuseportGroup group;
  const std::string why = group.open(2, Rung::kernel_backlog, SOCK_DGRAM);
  if (!why.empty() && privileged_required()) FAIL() << why;
  if (!why.empty()) GTEST_SKIP() << why;
  group.set_ready(1, false);
  const Flow steady(group);
  for (int i = 0; i < 100; i++) steady.send();
  group.set_ready(1, true);
  const auto flows = begin_flows(group, 20);
  EXPECT_THAT(group.all_picks(), ElementsAre(1, 20));
}

TEST(FlowTablePrivilege, cap_bpf_alone_loads_the_low_rung) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_EQ(in_child([]() -> std::string {
              if (!keep_only({CAP_BPF})) return "capset";
              ReuseportGroup group;
              if (auto why = group.open(2, Rung::in_flight, SOCK_DGRAM); !why.empty()) return why;
              group.page(0).in_flight = 100;
              Flow(group).send();
              return group.picks(1) == 1 ? "" : "slot 1 was not picked";
            }),
            "");
}

}  // namespace
}  // namespace lb::test
