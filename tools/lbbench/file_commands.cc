// SPDX-License-Identifier: MIT
#include "file_commands.hh"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "advice.hh"
#include "compare.hh"
#include "document.hh"
#include "model.hh"
#include "outputs.hh"
#include "page.hh"
#include "report.hh"
#include "scenario.hh"
#include "spread.hh"
#include "table.hh"
#include "terminal.hh"

namespace lbbench {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUse = 2;

int complain(const std::string& why, int code) {
  fmt::print(stderr, "lbbench: {}\n", why);
  return code;
}

std::string check_page(const std::string&) {
  if (page_template()) return "";
  return "this lbbench has no page: " + std::string(page_missing()) +
         "; build it with -Dreport=enabled where there is npm, and show what --json writes: lbbench report FILE --html F";
}

std::string check_open_scenario(const std::string& name) {
  std::vector<std::string> known;
  for (const auto& scenario : scenarios())
    if (in_model(scenario)) known.push_back(scenario.name);
  if (std::ranges::find(known, name) != known.end()) return "";
  return fmt::format("the model has no scenario \"{}\"; one of: {}", name, fmt::join(known, ", "));
}

/// CLI::Range lets NaN through.
CLI::Validator between(double least, double most) {
  const auto check = [=](const std::string& text) -> std::string {
    double number = 0;
    if (CLI::detail::lexical_cast(text, number) && number >= least && number <= most) return "";
    return fmt::format("\"{}\" is not a number from {:g} to {:g}", text, least, most);
  };
  return {check, ""};
}

void add_model(CLI::App& app, Options& options) {
  auto* model =
      app.add_subcommand("model", "Predict where each backend saturates on a larger machine, and what a rate is like there");
  auto& asked = options.model;
  model->add_option("--cores", asked.cores, "Of that machine, a worker on each")
      ->type_name("N")
      ->check(between(1, 1024))
      ->capture_default_str();
  model->add_option("--rate", asked.rate_per_s, "Connections a second (default: 70 % of what the best backend can do)")
      ->type_name("R")
      ->check(between(1, 1e9));
  model->add_option("--scenario", asked.scenario, "Whose service times to take")
      ->type_name("S")
      ->check(CLI::Validator(check_open_scenario, ""))
      ->capture_default_str();
  model->add_option("--service-us", asked.service_us, "Exponential service of that mean instead")
      ->type_name("US")
      ->check(between(0.1, 1e7));
  model->add_option("--json", asked.file, "Costs from, and a check against, what `lbbench run --json` wrote on this machine")
      ->type_name("F");
  const auto cost = [&](const char* name, std::optional<double>& value, const char* description) {
    model->add_option(name, value, description)->type_name("X")->check(between(0, 1e6));
  };
  cost("--worker-us", asked.worker_us, "A worker's CPU time for a connection, besides its service");
  cost("--primary-us", asked.primary_us, "The primary's, under round-robin");
  cost("--pick-ns", asked.pick_ns, "The selection program's, with no slot");
  cost("--pick-slot-ns", asked.pick_slot_ns, "The same, more for each slot");
  cost("--queue-us", asked.queue_us, "How long the shared queue is locked for a connection");
  model->final_callback([&] { options.command = Command::model; });
}

}  // namespace

void add_outputs(CLI::App& app, Options& options) {
  app.add_option("--csv", options.csv, "Write a line for each run to F, for spreadsheets; - is standard output")->type_name("F");
  app.add_option("--html", options.html, "Write a page with charts to F, one file that needs no network; - is standard output")
      ->type_name("F")
      ->check(CLI::Validator(check_page, ""));
}

void add_file_commands(CLI::App& app, Options& options) {
  auto* report = app.add_subcommand("report", "Show the results of an earlier run, which --json wrote");
  report->add_option("FILE", options.file, "What --json wrote")->required()->type_name("");
  add_outputs(*report, options);
  report->final_callback([&] { options.command = Command::report; });
  auto* compare =
      app.add_subcommand("compare", "Say what changed between two runs beyond noise; exit code 1 when something got worse");
  compare->add_option("BEFORE", options.file, "What --json wrote")->required()->type_name("");
  compare->add_option("AFTER", options.file_after, "The same, of the run to judge")->required()->type_name("");
  compare->add_option("--threshold", options.threshold_percent, "A change of less is none, in percent")
      ->type_name("PERCENT")
      ->check(between(0, 1000))
      ->capture_default_str();
  compare->final_callback([&] { options.command = Command::compare_files; });
  add_model(app, options);
}

std::string in_shell_words(int argc, const char* const* argv) {
  std::string line = "lbbench";
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool plain = !word.empty() && word.find_first_not_of(
                                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                            "_-+=:,./@%") == std::string::npos;
    line += ' ';
    if (plain) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

int report_file(const Options& options) {
  auto read = read_document_file(options.file);
  if (const auto* wrong = std::get_if<std::string>(&read)) return complain(*wrong, kWrongUse);
  const auto& document = std::get<Document>(read);
  auto opened = Outputs::open(options);
  if (const auto* wrong = std::get_if<std::string>(&opened)) return complain(*wrong, kWrongUse);
  auto& outputs = std::get<Outputs>(opened);
  std::FILE* out = outputs.take_stdout() ? stderr : stdout;
  fmt::print(out, "{}", wrap(document.host.to_string(), "  "));
  if (document.host.timer) fmt::print(out, "{}", wrap("Timer: " + document.host.timer_text() + ".", "  "));
  for (const auto& name : document.scenarios()) {
    const Scenario* scenario = find_scenario(name);
    if (scenario == nullptr) {
      fmt::print(out, "\n{}: a scenario that this lbbench does not know\n", name);
      continue;
    }
    fmt::print(out, "\n{}", report_scenario(*scenario, document.options_of(name), document.results_of(name), bar_columns(out)));
  }
  fmt::print(out, "{}", advice_text(document.results));
  if (const auto wrong = outputs.write(document.text); !wrong.empty()) return complain(wrong, kFailed);
  return std::fflush(stdout) == 0 ? 0 : kFailed;
}

int compare_files(const Options& options) {
  auto before = read_document_file(options.file);
  auto after = read_document_file(options.file_after);
  for (const auto* read : {&before, &after})
    if (const auto* wrong = std::get_if<std::string>(read)) return complain(*wrong, kWrongUse);
  const double threshold = options.threshold_percent / 100;
  const auto report = compare_documents(std::get<Document>(before), std::get<Document>(after), threshold);
  fmt::print("{}", to_text(report, threshold));
  if (report.lines.empty() && !report.regression) return kWrongUse;  // a CI job that compares nothing must not pass
  return report.regression || std::fflush(stdout) != 0 ? kFailed : 0;
}

int print_model(const Options& options) {
  const auto& asked = options.model;
  auto costs = ModelCosts::assumed();
  std::optional<Document> document;
  if (!asked.file.empty()) {
    auto read = read_document_file(asked.file);
    if (const auto* wrong = std::get_if<std::string>(&read)) return complain(*wrong, kWrongUse);
    document = std::get<Document>(std::move(read));
    costs.take(*document, asked.file);
  }
  costs.take(asked);
  fmt::print("{}", model_report(asked, costs, document ? &*document : nullptr));
  return std::fflush(stdout) == 0 ? 0 : kFailed;
}

}  // namespace lbbench
