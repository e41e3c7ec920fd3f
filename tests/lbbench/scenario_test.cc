// SPDX-License-Identifier: MIT
#include "scenario.hh"

#include <gtest/gtest.h>

namespace lbbench {
namespace {

TEST(Scenarios, the_shares_of_a_mix_add_up) {
  for (const auto& scenario : scenarios()) {
    double sum = 0;
    for (const auto& service : scenario.services) sum += service.share;
    EXPECT_DOUBLE_EQ(sum, 1) << scenario.name;
  }
}

TEST(Scenarios, each_has_a_name_of_its_own_and_a_sentence_that_fits_the_list) {
  for (const auto& scenario : scenarios()) {
    EXPECT_EQ(find_scenario(scenario.name), &scenario);
    EXPECT_LE(scenario.sentence.size(), 72U) << scenario.name;
    EXPECT_LE(scenario.pain.size(), 80U) << scenario.name;
    EXPECT_NE(scenario.pain.find('#'), std::string::npos) << scenario.name << ": where did who wish for it?";
    EXPECT_NE(scenario_names().find(scenario.name), std::string::npos);
  }
  EXPECT_EQ(find_scenario("storm"), nullptr);
}

TEST(Scenarios, an_open_loop_has_a_utilization_and_a_closed_one_clients) {
  for (const auto& scenario : scenarios()) {
    EXPECT_GT(scenario.duration_s, 0) << scenario.name;
    EXPECT_EQ(scenario.utilization > 0 || scenario.held_per_worker > 0, scenario.load == Load::open) << scenario.name;
    EXPECT_EQ(scenario.clients_per_worker > 0, scenario.load == Load::closed) << scenario.name;
  }
}

}  // namespace
}  // namespace lbbench
