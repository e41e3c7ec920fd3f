// SPDX-License-Identifier: MIT
#pragma once

#include "options.hh"

namespace CLI {
class App;
}

namespace lbbench {

/// The options for files to write that `run` and `report` have in common.
void add_outputs(CLI::App& app, Options& options);

/// The commands that measure nothing: report.
void add_file_commands(CLI::App& app, Options& options);

/// The command line, quoted so that a shell reads it as it was.
std::string in_shell_words(int argc, const char* const* argv);

/// Prints the tables of a file of results, and writes it in the other forms that are asked for. The exit code: 2 when it cannot be read.
int report_file(const Options& options);

}  // namespace lbbench
