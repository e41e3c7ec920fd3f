// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <lb/policy.hh>
#include <lb/version.hh>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "client.hh"
#include "follow.hh"
#include "metrics.hh"
#include "serve.hh"
#include "snapshot.hh"
#include "status.hh"
#include "top.hh"

namespace lbctl {
namespace {

constexpr const char* kFooter =
    "Exit code: 0 done; 1 the primary refused, or it failed; 2 wrong use; 3 the primary cannot be reached; 130 after Ctrl-C in "
    "top.\n"
    "The server must have an admin socket: start it with LB_ADMIN_SOCKET=PATH, or set Options::admin_socket.";

struct Arguments {
  std::string socket;
  double timeout_s = 5;
  bool json = false;
  double every_s = 1;
  std::string listen;
  uint32_t worker = 0;
  std::optional<double> deadline_s;
  std::optional<unsigned> parallel;
  bool no_wait = false;
  unsigned workers = 0;
  unsigned weight = 0;
  std::vector<std::string> words;
};

/// CLI::Range lets NaN through, and CLI11 reads "-1" as a huge unsigned number.
template <class Number>
CLI::Validator within(Number least, Number most) {
  const auto check = [=](const std::string& text) -> std::string {
    Number number{};
    const bool sign = text.starts_with('-');
    if (!sign && CLI::detail::lexical_cast(text, number) && number >= least && number <= most) return "";
    return fmt::format("\"{}\" is not a number from {} to {}", text, least, most);
  };
  return {check, ""};
}

Primary primary_of(const Arguments& given) {
  if (given.socket.empty()) throw Failure(kWrongUse, "which primary? Give --socket PATH, or set LB_ADMIN_SOCKET");
  return {given.socket, std::chrono::milliseconds(static_cast<int64_t>(given.timeout_s * 1000))};
}

void show_status(const Arguments& given) {
  const auto answer = primary_of(given).ask("status");
  fmt::print("{}", given.json ? answer.dump(2) + "\n" : status_text(Snapshot::parse(answer)));
}

void show(const Arguments& given, int& code) { code = show_top(primary_of(given), given.every_s); }

void show_metrics(const Arguments& given) {
  const auto primary = primary_of(given);
  if (!given.listen.empty()) return serve_metrics(primary, given.listen);
  fmt::print("{}", metrics_text(Snapshot::parse(primary.ask("status"))));
}

void drain(const Arguments& given) {
  auto request = fmt::format("drain {}", given.worker);
  if (given.deadline_s) request += fmt::format(" {}", static_cast<uint32_t>(*given.deadline_s * 1000));
  (void)primary_of(given).ask(request);
  fmt::print("worker {} drains\n", given.worker);
}

void roll(const Arguments& given) {
  const auto primary = primary_of(given);
  const auto generation = primary.ask(given.parallel ? fmt::format("roll {}", *given.parallel) : "roll").value("generation", 0U);
  if (!given.no_wait) follow(primary, [=](const Snapshot& snapshot) { return roll_progress(snapshot, generation); });
}

void scale(const Arguments& given) {
  const auto primary = primary_of(given);
  (void)primary.ask(fmt::format("scale {}", given.workers));
  if (!given.no_wait) follow(primary, [&](const Snapshot& snapshot) { return scale_progress(snapshot, given.workers); });
}

void set_weight(const Arguments& given) {
  (void)primary_of(given).ask(fmt::format("weight {} {}", given.worker, given.weight));
  fmt::print("worker {} has weight {}\n", given.worker, given.weight);
}

void set_policy(const Arguments& given) {
  const auto primary = primary_of(given);
  const std::string endpoint = given.words.size() == 2 ? given.words.front() : "";
  (void)primary.ask(fmt::format("policy {} {}", given.words.back(), endpoint));
  if (!given.no_wait) follow(primary, [&](const Snapshot& snapshot) { return policy_progress(snapshot, endpoint); });
}

void upgrade(const Arguments& given) {
  const auto primary = primary_of(given);
  const auto pid = primary.ask("upgrade").value("pid", int64_t{0});
  if (given.no_wait) return fmt::print("primary {} starts\n", pid);
  follow(
      primary, [=](const Snapshot& snapshot) { return upgrade_progress(snapshot, pid); }, true);
}

/// Of "[ENDPOINT] POLICY" the last.
std::string check_policy(const std::vector<std::string>& words) {
  const auto policy = lb::Policy::parse(words.back());
  return policy ? "" : fmt::format("unknown policy \"{}\"; one of: {}", words.back(), lb::policy_names());
}

void add_worker(CLI::App& command, Arguments& given) {
  command.add_option("WORKER", given.worker, "Its id, as status shows it")
      ->required()
      ->check(within(1U, std::numeric_limits<uint32_t>::max()));
}

void add_waiting(CLI::App& command, Arguments& given) {
  command.add_flag("--no-wait", given.no_wait, "Return at once, not at the end");
}

void add_commands(CLI::App& app, Arguments& given, int& code) {
  auto* status = app.add_subcommand("status", "Endpoints with their policies, and the workers");
  status->add_flag("--json", given.json, "As JSON, with the names of <lb/status.hh>");
  status->final_callback([&] { show_status(given); });

  auto* top = app.add_subcommand("top", "The same live: rates, shares, what waits where; q quits, the arrow keys scroll");
  top->add_option("--every", given.every_s, "Seconds between two looks")
      ->type_name("S")
      ->check(within(0.1, 3600.0))
      ->capture_default_str();
  top->final_callback([&] { show(given, code); });

  auto* drain_command = app.add_subcommand("drain", "Let one worker finish what it has and leave; it is not replaced");
  add_worker(*drain_command, given);
  drain_command->add_option("--deadline", given.deadline_s, "Seconds after which it is killed (default: the server's)")
      ->type_name("S")
      ->check(within(0.0, 1e6));
  drain_command->final_callback([&] { drain(given); });

  auto* roll_command =
      app.add_subcommand("roll", "Rolling restart: a replacement for each worker, which then drains; nothing is lost");
  roll_command->add_option("--parallel", given.parallel, "How many replacements may start at a time (default: the server's)")
      ->type_name("N")
      ->check(within(1U, 1U << 16));
  add_waiting(*roll_command, given);
  roll_command->final_callback([&] { roll(given); });

  auto* scale_command = app.add_subcommand("scale", "Start more workers, or let some finish and leave");
  scale_command->add_option("N", given.workers, "How many there are to be")->required()->check(within(1U, 1U << 16));
  add_waiting(*scale_command, given);
  scale_command->final_callback([&] { scale(given); });

  auto* weight = app.add_subcommand("weight", "What a worker can take, in relation to the others, where connections go by load");
  add_worker(*weight, given);
  weight->add_option("W", given.weight, "1 to 65535; each has 1 at first")->required()->check(within(1U, 65535U));
  weight->final_callback([&] { set_weight(given); });

  auto* policy = app.add_subcommand("policy", "Change the policy of one endpoint, or of all, while it serves; nothing is lost");
  policy
      ->add_option("[ENDPOINT] POLICY", given.words,
                   "Which endpoint, as status shows it (default: all); one of " + lb::policy_names())
      ->required()
      ->expected(1, 2);
  add_waiting(*policy, given);
  policy->final_callback([&] {
    if (const auto wrong = check_policy(given.words); !wrong.empty()) throw CLI::ValidationError(wrong);
    set_policy(given);
  });

  auto* upgrade_command = app.add_subcommand(
      "upgrade", "A new primary, of the program that is now where this one was started from, takes over; nothing is lost");
  add_waiting(*upgrade_command, given);
  upgrade_command->final_callback([&] { upgrade(given); });

  auto* metrics = app.add_subcommand("metrics", "All figures in Prometheus's text format");
  metrics->add_option("--listen", given.listen, "Serve them at http://ADDR:PORT/metrics until SIGINT or SIGTERM; port 0 takes any")
      ->type_name("ADDR:PORT")
      ->check(CLI::Validator(check_listen, ""));
  metrics->final_callback([&] { show_metrics(given); });
}

int run(int argc, char** argv) {
  Arguments given;
  int code = kDone;
  CLI::App app("Shows and steers a running cluster of liblb.", "lbctl");
  app.set_version_flag("--version", std::string("lbctl ") + LB_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(kFooter);
  app.add_option("--socket", given.socket, "The primary's admin socket: a path, or @NAME")
      ->type_name("PATH")
      ->envname("LB_ADMIN_SOCKET");
  app.add_option("--timeout", given.timeout_s, "How long to wait for an answer")
      ->type_name("S")
      ->check(within(0.001, 3600.0))
      ->capture_default_str();
  add_commands(app, given, code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream err;
    if (app.exit(error, out, err) == 0) return fmt::print("{}", out.str()), kDone;
    if (!app.get_subcommands().empty()) return fmt::print(stderr, "lbctl: {}", err.str()), kWrongUse;
    const auto extras = app.remaining();
    fmt::print(stderr, "lbctl: {}\n\n{}", extras.empty() ? error.what() : fmt::format("unknown command \"{}\"", extras.front()),
               app.help());
    return kWrongUse;
  }
  return code;
}

}  // namespace
}  // namespace lbctl

int main(int argc, char** argv) {
  try {
    const int code = lbctl::run(argc, argv);
    if (std::fflush(stdout) != 0) throw std::runtime_error(fmt::format("cannot write the answer: {}", std::strerror(errno)));
    return code;
  } catch (const lbctl::Failure& failure) {
    fmt::print(stderr, "lbctl: {}\n", failure.what());
    return failure.code;
  } catch (const std::exception& error) {
    fmt::print(stderr, "lbctl: {}\n", error.what());
    return lbctl::kRefused;
  }
}
