// SPDX-License-Identifier: MIT
#include "primary/admin_request.hh"

#include <charconv>
#include <vector>

namespace lb {
namespace {

constexpr size_t kWordsMax = 8;
constexpr const char* kVerbs = "status, drain, roll, scale, weight, policy, upgrade";

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> words;
  while (!line.empty() && words.size() <= kWordsMax) {
    const size_t end = std::min(line.find(' '), line.size());
    if (end != 0) words.push_back(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return words;
}

template <class Number>
std::optional<Number> number(std::string_view word) {
  Number value{};
  const auto [end, status] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (word.empty() || status != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

std::string quoted(std::string_view word) { return "\"" + std::string(word.substr(0, 64)) + "\""; }

std::variant<AdminRequest, std::string> parse_drain(const std::vector<std::string_view>& words) {
  if (words.size() != 3 && words.size() != 4) return "drain takes a worker's id and, if you like, a deadline in ms";
  AdminRequest request{AdminRequest::Verb::drain};
  const auto worker = number<uint32_t>(words[2]);
  if (!worker) return quoted(words[2]) + " is no worker's id";
  request.worker = *worker;
  if (words.size() == 3) return request;
  const auto deadline = number<uint32_t>(words[3]);
  if (!deadline) return quoted(words[3]) + " is no deadline in ms";
  request.deadline = std::chrono::milliseconds(*deadline);
  return request;
}

std::variant<AdminRequest, std::string> parse_roll(const std::vector<std::string_view>& words) {
  if (words.size() > 3) return "roll takes, if you like, how many replacements may start at once";
  AdminRequest request{AdminRequest::Verb::roll};
  if (words.size() == 2) return request;
  request.at_once = number<unsigned>(words[2]);
  if (!request.at_once || *request.at_once == 0) return quoted(words[2]) + " is no number of replacements (1 and up)";
  return request;
}

std::variant<AdminRequest, std::string> parse_scale(const std::vector<std::string_view>& words) {
  if (words.size() != 3) return "scale takes a number of workers";
  AdminRequest request{AdminRequest::Verb::scale};
  const auto workers = number<unsigned>(words[2]);
  if (!workers) return quoted(words[2]) + " is no number of workers";
  request.workers = *workers;
  return request;
}

std::variant<AdminRequest, std::string> parse_weight(const std::vector<std::string_view>& words) {
  if (words.size() != 4) return "weight takes a worker's id and a weight";
  AdminRequest request{AdminRequest::Verb::weight};
  const auto worker = number<uint32_t>(words[2]);
  if (!worker) return quoted(words[2]) + " is no worker's id";
  const auto weight = number<uint16_t>(words[3]);
  if (!weight || *weight == 0) return quoted(words[3]) + " is no weight (1 to 65535)";
  request.worker = *worker;
  request.weight = *weight;
  return request;
}

std::variant<AdminRequest, std::string> parse_policy(const std::vector<std::string_view>& words, std::string_view line) {
  if (words.size() < 3) return "policy takes a policy and, if you like, an endpoint";
  AdminRequest request{AdminRequest::Verb::policy};
  request.policy = words[2];
  if (words.size() > 3) request.endpoint = line.substr(static_cast<size_t>(words[3].data() - line.data()));
  return request;
}

}  // namespace

std::variant<AdminRequest, std::string> parse_admin_request(std::string_view line) {
  const auto words = split(line);
  if (words.empty() || words[0] != kAdminProtocol)
    return "this primary speaks " + std::string(kAdminProtocol) + ": a request is \"" + std::string(kAdminProtocol) +
           " VERB [ARGUMENT...]\", VERB one of: " + kVerbs;
  const std::string_view verb = words.size() > 1 ? words[1] : std::string_view();
  if (verb == "status") {
    if (words.size() != 2) return "status takes no argument";
    return AdminRequest{AdminRequest::Verb::status};
  }
  if (verb == "drain") return parse_drain(words);
  if (verb == "roll") return parse_roll(words);
  if (verb == "scale") return parse_scale(words);
  if (verb == "weight") return parse_weight(words);
  if (verb == "upgrade") {
    if (words.size() != 2) return "upgrade takes no argument";
    return AdminRequest{AdminRequest::Verb::upgrade};
  }
  if (verb == "policy") return parse_policy(words, line);
  return "unknown request " + quoted(verb) + "; one of: " + kVerbs;
}

}  // namespace lb
