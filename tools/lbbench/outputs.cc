// SPDX-License-Identifier: MIT
#include "outputs.hh"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "csv_report.hh"
#include "document.hh"
#include "page.hh"

namespace lbbench {
namespace {

constexpr const char* kStdout = "-";

std::string as_json(const std::string& json) { return json; }
std::string as_csv(const std::string& json) { return csv_report(std::get<Document>(read_document(json)).results); }

std::string as_html(const std::string& json) { return html_report(std::get<Document>(read_document(json))); }

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno != EINTR) return false;
    text.remove_prefix(n > 0 ? static_cast<size_t>(n) : 0);
  }
  return true;
}

}  // namespace

std::variant<Outputs, std::string> Outputs::open(const Options& options) {
  Outputs outputs;
  if (!options.json.empty()) outputs.files_.push_back({"--json", options.json, as_json});
  if (!options.csv.empty()) outputs.files_.push_back({"--csv", options.csv, as_csv});
  if (!options.html.empty()) outputs.files_.push_back({"--html", options.html, as_html});
  if (std::ranges::count(outputs.files_, kStdout, &File::path) > 1)
    return "only one of the files to write can be - (standard output)";
  for (auto& file : outputs.files_) {
    file.fd.reset(file.path == kStdout ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0)
                                       : ::open(file.path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
    if (!file.fd)
      return fmt::format("{}: cannot write \"{}\": {}; give a file that can be written, or - for standard output", file.option,
                         file.path, std::strerror(errno));
  }
  return outputs;
}

bool Outputs::take_stdout() const { return std::ranges::count(files_, kStdout, &File::path) > 0; }

std::string Outputs::write(const std::string& json) {
  for (auto& file : files_) {
    if (file.path != kStdout) (void)!ftruncate(file.fd.get(), 0);  // a pipe or a device has no length
    if (!write_all(file.fd.get(), file.form(json)))
      return fmt::format("{}: writing \"{}\" failed: {}", file.option, file.path, std::strerror(errno));
  }
  return "";
}

}  // namespace lbbench
