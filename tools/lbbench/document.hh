// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "host.hh"
#include "options.hh"
#include "result.hh"

namespace lbbench {

/// What json_report() writes, and the oldest that is still read. 2 adds: command, latency_histogram, ideal_histogram, p99_99,
/// cpu_us_per_connection.generator, extra.duration_s, summary. What a file lacks is 0 or empty when it is read.
constexpr unsigned kSchema = 2;
constexpr unsigned kSchemaOldest = 1;

/// A file of results, read again.
struct Document {
  unsigned schema = kSchema;
  Host host;
  std::string command;  ///< that repeats it; empty if unknown
  std::vector<RunResult> results;
  std::string text;  ///< the whole file, for what is not in `results`

  /// Scenarios in the order of the file.
  std::vector<std::string> scenarios() const;
  std::vector<RunResult> results_of(const std::string& scenario) const;
  /// As far as the file says: what its runs were measured with.
  Options options_of(const std::string& scenario) const;
};

/// A string says what is wrong with the text: not JSON, not lbbench's, too new, a field of the wrong kind.
std::variant<Document, std::string> read_document(std::string text);

/// The same from a file; the message names the path.
std::variant<Document, std::string> read_document_file(const std::string& path);

}  // namespace lbbench
