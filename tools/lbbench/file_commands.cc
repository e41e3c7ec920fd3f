// SPDX-License-Identifier: MIT
#include "file_commands.hh"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "document.hh"
#include "outputs.hh"
#include "report.hh"
#include "table.hh"

namespace lbbench {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUse = 2;

int complain(const std::string& why, int code) {
  fmt::print(stderr, "lbbench: {}\n", why);
  return code;
}

}  // namespace

void add_outputs(CLI::App& app, Options& options) {
  app.add_option("--csv", options.csv, "Write a line for each run to F, for spreadsheets; - is standard output")->type_name("F");
}

void add_file_commands(CLI::App& app, Options& options) {
  auto* report = app.add_subcommand("report", "Show the results of an earlier run, which --json wrote");
  report->add_option("FILE", options.file, "What --json wrote")->required()->type_name("");
  add_outputs(*report, options);
  report->final_callback([&] { options.command = Command::report; });
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
  for (const auto& name : document.scenarios()) {
    const Scenario* scenario = find_scenario(name);
    if (scenario == nullptr) {
      fmt::print(out, "\n{}: a scenario that this lbbench does not know\n", name);
      continue;
    }
    fmt::print(out, "\n{}", report_scenario(*scenario, document.options_of(name), document.results_of(name)));
  }
  if (const auto wrong = outputs.write(document.text); !wrong.empty()) return complain(wrong, kFailed);
  return std::fflush(stdout) == 0 ? 0 : kFailed;
}

}  // namespace lbbench
