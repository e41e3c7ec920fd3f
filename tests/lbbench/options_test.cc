// SPDX-License-Identifier: MIT
#include "options.hh"

#include <gtest/gtest.h>
#include "reach.hh"

namespace lbbench {
namespace {

std::variant<Options, Leave> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "lbbench");
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

/// The message of a command line that must be wrong use.
std::string refusal(std::vector<const char*> arguments) {
  const auto parsed = parse(std::move(arguments));
  const auto* leave = std::get_if<Leave>(&parsed);
  EXPECT_NE(leave, nullptr) << "accepted";
  if (leave == nullptr) return "";
  EXPECT_EQ(leave->code, 2);
  return leave->text;
}

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

TEST(OptionsTest, no_argument_compares_in_about_a_minute) {
  const auto options = std::get<Options>(parse({}));
  EXPECT_EQ(options.command, Command::compare);
  EXPECT_TRUE(options.stealing);
  double total_s = 0;
  for (const auto& name : options.scenarios) {
    const double counted_s = options.duration_of(*find_scenario(name));
    EXPECT_GT(counted_s, 0) << name;
    total_s += static_cast<double>(period_of(counted_s).end_ns) / 1e9 + 0.3;
  }
  EXPECT_LT(total_s * static_cast<double>(options.policies.size()) * options.repeat, 75);
}

TEST(OptionsTest, run_takes_every_option) {
  const auto options = std::get<Options>(parse({"run",
                                                "--policy",
                                                "shared,reuseport:p2c",
                                                "--scenario",
                                                "mixed",
                                                "--workers",
                                                "4",
                                                "--utilization",
                                                "0.2",
                                                "--duration",
                                                "2.5",
                                                "--work",
                                                "cpu",
                                                "--worker-model",
                                                "event-loop",
                                                "--repeat",
                                                "3",
                                                "--seed",
                                                "9",
                                                "--json",
                                                "out.json",
                                                "--no-stealing"}));
  EXPECT_FALSE(options.stealing);
  EXPECT_EQ(options.command, Command::run);
  EXPECT_EQ(options.policies, (std::vector<std::string>{"shared", "reuseport:p2c"}));
  EXPECT_EQ(options.scenarios, (std::vector<std::string>{"mixed"}));
  EXPECT_EQ(options.workers, 4U);
  EXPECT_DOUBLE_EQ(*options.utilization, 0.2);
  EXPECT_DOUBLE_EQ(*options.duration_s, 2.5);
  EXPECT_EQ(options.work, Work::cpu);
  EXPECT_EQ(options.worker_model, WorkerModel::event_loop);
  EXPECT_EQ(options.repeat, 3U);
  EXPECT_EQ(options.seed, 9U);
  EXPECT_EQ(options.json, "out.json");
}

TEST(OptionsTest, an_unknown_policy_is_named_and_the_known_ones_listed) {
  const auto message = refusal({"run", "--policy", "shared,fastest"});
  EXPECT_TRUE(has(message, "fastest")) << message;
  EXPECT_TRUE(has(message, "round-robin")) << message;
}

TEST(OptionsTest, an_unknown_scenario_is_named_and_the_known_ones_listed) {
  const auto message = refusal({"run", "--scenario", "storm"});
  EXPECT_TRUE(has(message, "storm")) << message;
  EXPECT_TRUE(has(message, "mixed")) << message;
}

TEST(OptionsTest, numbers_out_of_range_are_refused_with_the_range) {
  EXPECT_TRUE(has(refusal({"run", "--workers", "0"}), "1 to 256"));
  EXPECT_TRUE(has(refusal({"run", "--workers", "-3"}), "-3"));
  EXPECT_TRUE(has(refusal({"run", "--utilization", "7"}), "0.01 to 1.5"));
  EXPECT_TRUE(has(refusal({"run", "--duration", "nan"}), "nan"));
  EXPECT_TRUE(has(refusal({"run", "--duration", "soon"}), "soon"));
  EXPECT_TRUE(has(refusal({"run", "--repeat", "0"}), "0"));
  EXPECT_TRUE(has(refusal({"run", "--seed", "1x"}), "1x"));
  EXPECT_TRUE(has(refusal({"run", "--seed", "-1"}), "-1"));
}

TEST(OptionsTest, words_out_of_a_choice_are_refused_with_the_choice) {
  const auto work = refusal({"run", "--work", "play"});
  EXPECT_TRUE(has(work, "play")) << work;
  EXPECT_TRUE(has(work, "sleep") && has(work, "cpu")) << work;
  EXPECT_TRUE(has(refusal({"run", "--work", "1"}), "unknown word"));
  const auto model = refusal({"run", "--worker-model", "magic"});
  EXPECT_TRUE(has(model, "event-loop")) << model;
}

TEST(OptionsTest, peers_are_asked_in_http_and_those_that_cannot_be_busy_have_no_part_in_such_a_scenario) {
  const auto options = std::get<Options>(
      parse({"run", "--policy", "shared", "--peers", "nginx,haproxy,node-rr", "--scenario", "connect,keep-alive,mixed"}));
  EXPECT_TRUE(options.http);
  EXPECT_EQ(options.contenders(*find_scenario("connect")), (std::vector<std::string>{"shared", "nginx", "haproxy", "node-rr"}));
  EXPECT_EQ(options.contenders(*find_scenario("mixed")), (std::vector<std::string>{"shared", "node-rr"}));
  EXPECT_EQ(options.model_of(*find_scenario("mixed")), WorkerModel::event_loop);
}

TEST(OptionsTest, an_unknown_peer_is_named_and_the_known_ones_listed) {
  const auto message = refusal({"run", "--peers", "nginx,apache"});
  EXPECT_TRUE(has(message, "apache") && has(message, "node-reuseport")) << message;
}

TEST(OptionsTest, what_cannot_be_had_over_http_is_refused_with_what_can) {
  const auto message = refusal({"run", "--peers", "node-rr", "--scenario", "connect,held"});
  EXPECT_TRUE(has(message, "held cannot") && has(message, "keep-alive")) << message;
  EXPECT_EQ(refusal({"run", "--http", "--scenario", "hang"}).substr(0, 8), "lbbench:");
}

TEST(OptionsTest, every_scenario_runs_with_either_work_and_model_and_with_1_to_256_workers) {
  for (const auto& scenario : scenarios()) {
    for (const char* work : {"sleep", "cpu"}) {
      for (const char* model : {"serial", "event-loop"}) {
        if (!scenario.serial_can() && std::string_view(model) == "serial") continue;
        for (const char* workers : {"1", "256"}) {
          const auto parsed =
              parse({"run", "--scenario", scenario.name.c_str(), "--work", work, "--worker-model", model, "--workers", workers});
          ASSERT_TRUE(std::holds_alternative<Options>(parsed)) << scenario.name << std::get<Leave>(parsed).text;
          const auto& options = std::get<Options>(parsed);
          EXPECT_EQ(options.workers_of(scenario), static_cast<unsigned>(std::stoul(workers)));
          EXPECT_FALSE(scenario.load == Load::open &&
                       make_trace(scenario, options.workers_of(scenario), 0.5, {1, 1'000'000'000}, 1).empty())
              << scenario.name;
        }
      }
    }
  }
}

TEST(OptionsTest, unknown_commands_and_options_are_refused) {
  EXPECT_TRUE(has(refusal({"measure"}), "measure"));
  EXPECT_TRUE(has(refusal({"run", "--polcy", "shared"}), "--polcy"));
  EXPECT_TRUE(has(refusal({"run", "--workers"}), "--workers"));
}

TEST(OptionsTest, a_trace_too_long_to_hold_is_refused) {
  EXPECT_TRUE(has(refusal({"run", "--scenario", "mixed", "--workers", "256", "--duration", "3600"}), "at most"));
}

TEST(OptionsTest, help_and_version_are_not_wrong_use) {
  for (const char* flag : {"--help", "--version"}) {
    const auto leave = std::get<Leave>(parse({flag}));
    EXPECT_EQ(leave.code, 0);
    EXPECT_FALSE(leave.text.empty());
  }
  EXPECT_EQ(std::get<Options>(parse({"list"})).command, Command::list);
}

TEST(OptionsTest, slept_service_has_eight_workers_whatever_the_machine) {
  EXPECT_EQ(Options{}.workers_of(*find_scenario("mixed")), 8U);
  Options options;
  options.workers = 3;
  EXPECT_EQ(options.workers_of(*find_scenario("mixed")), 3U);
}

TEST(OptionsTest, serial_is_refused_where_workers_must_serve_several_at_a_time) {
  const auto held = refusal({"run", "--scenario", "mixed,held", "--worker-model", "serial"});
  EXPECT_TRUE(has(held, "of held") && has(held, "event-loop can") && has(held, "connect")) << held;
  const auto http = refusal({"run", "--scenario", "mixed", "--http", "--worker-model", "serial"});
  EXPECT_TRUE(has(http, "--worker-model") && has(http, "HTTP")) << http;
  const auto options = std::get<Options>(parse({"run", "--scenario", "held"}));
  EXPECT_EQ(options.model_of(*find_scenario("held")), WorkerModel::event_loop);
  EXPECT_EQ(options.model_of(*find_scenario("mixed")), WorkerModel::serial);
}

TEST(OptionsTest, many_workers_are_not_offered_more_than_a_machine_can_bring_unless_asked_for) {
  const Scenario& uneven = *find_scenario("uneven");
  const auto many = std::get<Options>(parse({"run", "--workers", "256"}));
  EXPECT_LE(arrival_rate_per_s(uneven, 256, many.utilization_of(uneven)), kRatePerCpuMax * cpu_count() * 1.0001);
  EXPECT_EQ(std::get<Options>(parse({"run", "--workers", "2"})).utilization_of(uneven), 0.7);
  EXPECT_EQ(std::get<Options>(parse({"run", "--workers", "256", "--utilization", "0.7"})).utilization_of(uneven), 0.7);
}

TEST(OptionsTest, workers_that_compute_are_not_offered_more_than_the_cpus_can_do_and_cannot_be_asked_to) {
  const std::string workers = std::to_string(2 * cpu_count());
  const auto unasked = std::get<Options>(parse({"run", "--scenario", "mixed", "--work", "cpu", "--workers", workers.c_str()}));
  EXPECT_LT(unasked.utilization_of(*find_scenario("mixed")), 0.5);
  const auto message =
      refusal({"run", "--scenario", "connect,mixed", "--work", "cpu", "--workers", workers.c_str(), "--utilization", "0.6"});
  EXPECT_TRUE(has(message, "--utilization: 0.6") && has(message, "under mixed")) << message;
}

TEST(OptionsTest, what_is_asked_for_and_may_be_too_much_is_told_beforehand) {
  const std::string most = std::to_string(kWorkersMax);
  const auto asked =
      std::get<Options>(parse({"run", "--scenario", "mixed,uneven", "--workers", most.c_str(), "--utilization", "1.5"}));
  if (cpu_count() > 32) GTEST_SKIP() << "this machine may do it";
  EXPECT_EQ(asked.warnings().size(), 2U);
  EXPECT_TRUE(std::get<Options>(parse({"run", "--workers", most.c_str()})).warnings().empty()) << "not asked for";
}

}  // namespace
}  // namespace lbbench
