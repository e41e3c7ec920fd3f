// SPDX-License-Identifier: MIT
#pragma once

#include "options.hh"

namespace CLI {
class App;
}

namespace lbbench {

/// The options for files to write that `run` and `report` have in common.
void add_outputs(CLI::App& app, Options& options);

/// The commands that measure nothing: report, compare, model.
void add_file_commands(CLI::App& app, Options& options);

/// The command line, quoted so that a shell reads it as it was.
std::string in_shell_words(int argc, const char* const* argv);

/// Prints the tables of a file of results, and writes it in the other forms that are asked for. The exit code: 2 when it cannot be read.
int report_file(const Options& options);

/// Says what changed from one file to another: 0 nothing for the worse, 1 something, 2 a file cannot be read, or they have nothing in common.
int compare_files(const Options& options);

/// Prints what the model says: 2 when its file cannot be read.
int print_model(const Options& options);

}  // namespace lbbench
