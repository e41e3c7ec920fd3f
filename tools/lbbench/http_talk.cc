// SPDX-License-Identifier: MIT
#include "http_talk.hh"

#include <fmt/format.h>
#include <strings.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <optional>

namespace lbbench {
namespace {

template <class Number>
std::optional<Number> number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

/// The value of the header of that name; none if the line has another.
std::optional<std::string_view> value_of(std::string_view line, std::string_view name) {
  if (line.size() <= name.size() || line[name.size()] != ':' || strncasecmp(line.data(), name.data(), name.size()) != 0) return {};
  line.remove_prefix(name.size() + 1);
  while (line.starts_with(' ') || line.starts_with('\t')) line.remove_prefix(1);
  while (line.ends_with(' ') || line.ends_with('\t')) line.remove_suffix(1);
  return line;
}

}  // namespace

size_t write_http_request(std::span<char, kHttpRequestMax> to, Work work, uint64_t service_ns, bool last) {
  char* end = fmt::format_to(to.data(), "GET /");
  if (service_ns >= 1000) end = fmt::format_to(end, "{}/{}", work == Work::cpu ? "spin" : "sleep", service_ns / 1000);
  end = fmt::format_to(end, " HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n", last ? "Connection: close\r\n" : "");
  return static_cast<size_t>(end - to.data());
}

HttpAnswer::State HttpAnswer::take(std::string_view bytes) {
  bytes_ += bytes.size();
  while (!bytes.empty() && (part_ == Part::status || part_ == Part::headers)) {
    const char c = bytes.front();
    bytes.remove_prefix(1);
    if (c == '\n') {
      end_line();
    } else if (line_size_ < kLineMax) {
      line_[line_size_++] = c;
    }
  }
  if (part_ == Part::body) {
    if (bytes.size() > body_left_) part_ = Part::broken;
    body_left_ -= std::min<uint64_t>(body_left_, bytes.size());
  }
  if (part_ == Part::broken) return State::broken;
  return part_ == Part::body && body_left_ == 0 ? State::complete : State::incomplete;
}

void HttpAnswer::end_line() {
  std::string_view line(line_.data(), line_size_);
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (part_ == Part::status) {
    status_line(line);
  } else {
    header_line(line);
  }
  line_size_ = 0;
}

void HttpAnswer::status_line(std::string_view line) { part_ = line.starts_with("HTTP/1.1 200") ? Part::headers : Part::broken; }

void HttpAnswer::header_line(std::string_view line) {
  if (line.empty()) {
    part_ = has_length_ ? Part::body : Part::broken;
  } else if (const auto length = value_of(line, "Content-Length")) {
    const auto bytes = number<uint64_t>(*length);
    if (!bytes) part_ = Part::broken;
    body_left_ = bytes.value_or(0);
    has_length_ = true;
  } else if (const auto id = value_of(line, "X-Worker")) {
    worker_ = number<uint32_t>(*id).value_or(0);
  }
}

}  // namespace lbbench
