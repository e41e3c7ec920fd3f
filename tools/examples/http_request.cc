// SPDX-License-Identifier: MIT
#include "http_request.hh"

#include <algorithm>
#include <charconv>
#include <optional>

namespace example {
namespace {

using std::string_view;

bool is_token_char(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         (c != '\0' && string_view("!#$%&'*+-.^_`|~").find(c) != string_view::npos);
}

bool is_token(string_view text) noexcept { return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char); }

bool is_control(char c) noexcept { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

bool same_word(string_view a, string_view b) noexcept {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

string_view trimmed(string_view text) noexcept {
  const auto first = text.find_first_not_of(" \t");
  if (first == string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// Takes the next line off `rest`, without its LF or CRLF; empty when the line has no end yet.
std::optional<string_view> take_line(string_view& rest) noexcept {
  const auto end = rest.find('\n');
  if (end == string_view::npos) return std::nullopt;
  auto line = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// Each of the following returns 0, or the status of the answer that the fault deserves.

int parse_target(string_view target, HttpRequest& request) noexcept {
  if (target == "*") {
    request.path = target;
    return 0;
  }
  for (const string_view scheme : {string_view("http://"), string_view("https://")}) {  // absolute form, as proxies send
    if (!same_word(target.substr(0, scheme.size()), scheme)) continue;
    target.remove_prefix(scheme.size());
    const auto slash = target.find('/');
    target = slash == string_view::npos ? string_view("/") : target.substr(slash);
  }
  request.path = target.substr(0, target.find('?'));
  return request.path.starts_with('/') ? 0 : 400;
}

int parse_version(string_view version, HttpRequest& request) noexcept {
  const auto is_digit = [&](std::size_t at) { return version[at] >= '0' && version[at] <= '9'; };
  if (version.size() != 8 || !version.starts_with("HTTP/") || !is_digit(5) || version[6] != '.' || !is_digit(7)) return 400;
  if (version[5] != '1') return 505;
  request.minor_version = version[7] == '0' ? 0 : 1;
  request.keep_alive = request.minor_version == 1;
  return 0;
}

int parse_request_line(string_view line, HttpRequest& request) noexcept {
  const auto first = line.find(' ');
  const auto last = line.rfind(' ');
  if (first == string_view::npos || first == last) return 400;
  request.method = line.substr(0, first);
  const auto target = line.substr(first + 1, last - first - 1);
  if (!is_token(request.method)) return 400;
  if (std::any_of(target.begin(), target.end(), [](char c) { return c == ' ' || is_control(c); })) return 400;
  if (const int status = parse_version(line.substr(last + 1), request)) return status;
  return parse_target(target, request);
}

void parse_connection(string_view value, HttpRequest& request, bool& close) noexcept {
  while (!value.empty()) {
    const auto comma = value.find(',');
    const auto option = trimmed(value.substr(0, comma));
    if (same_word(option, "close")) close = true;
    if (same_word(option, "keep-alive")) request.keep_alive = true;
    value.remove_prefix(comma == string_view::npos ? value.size() : comma + 1);
  }
}

// What the headers have said so far.
struct Headers {
  std::size_t count = 0;
  std::size_t hosts = 0;
  bool close = false;
  std::optional<std::uint64_t> content_length;
};

int parse_content_length(string_view value, Headers& headers) noexcept {
  std::uint64_t length = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
  if (error == std::errc::result_out_of_range) return 413;
  if (error != std::errc{} || end != value.data() + value.size()) return 400;
  if (headers.content_length.value_or(length) != length) return 400;  // two lengths: request smuggling
  headers.content_length = length;
  return length > kBodyBytesMax ? 413 : 0;
}

int parse_header(string_view line, HttpRequest& request, Headers& headers) noexcept {
  const auto colon = line.find(':');
  if (colon == string_view::npos || !is_token(line.substr(0, colon))) return 400;
  if (++headers.count > kHeadersMax) return 431;
  const auto name = line.substr(0, colon);
  const auto value = trimmed(line.substr(colon + 1));
  if (std::any_of(value.begin(), value.end(), [](char c) { return c != '\t' && is_control(c); })) return 400;
  if (same_word(name, "Host")) ++headers.hosts;
  if (same_word(name, "Connection")) parse_connection(value, request, headers.close);
  if (same_word(name, "Content-Length")) return parse_content_length(value, headers);
  if (same_word(name, "Transfer-Encoding")) return 501;
  return 0;
}

HttpParse failed(int status) noexcept { return {HttpParse::State::error, status, {}}; }

// The head goes on: not yet an error, unless it is already longer than it may be.
HttpParse unfinished(string_view bytes, int status_if_too_long) noexcept {
  return bytes.size() >= kHeadBytesMax ? failed(status_if_too_long) : HttpParse{};
}

}  // namespace

HttpParse parse_http_request(string_view bytes) noexcept {
  auto rest = bytes;
  while (rest.starts_with("\r\n") || rest.starts_with('\n')) rest.remove_prefix(rest.front() == '\n' ? 1 : 2);  // RFC 9112, 2.2

  const auto request_line = take_line(rest);
  if (!request_line) return unfinished(bytes, 414);
  HttpParse parse{HttpParse::State::complete, 0, {}};
  if (const int status = parse_request_line(*request_line, parse.request)) return failed(status);

  Headers headers;
  for (;;) {
    const auto line = take_line(rest);
    if (!line) return unfinished(bytes, 431);
    if (line->empty()) break;
    if (const int status = parse_header(*line, parse.request, headers)) return failed(status);
  }
  parse.request.head_bytes = bytes.size() - rest.size();
  if (parse.request.head_bytes > kHeadBytesMax) return failed(431);
  if (headers.hosts > 1 || (headers.hosts == 0 && parse.request.minor_version == 1)) return failed(400);
  if (headers.close) parse.request.keep_alive = false;
  parse.request.body_bytes = headers.content_length.value_or(0);
  return parse;
}

}  // namespace example
