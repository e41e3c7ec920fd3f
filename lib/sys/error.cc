// SPDX-License-Identifier: MIT
#include "sys/error.hh"

#include <mutex>
#include <set>
#include <system_error>
#include <utility>

namespace lb {

std::string Error::message() const {
  std::string text = *op != '\0' ? std::string(op) + ": " : std::string();
  return text + std::generic_category().message(code);
}

void throw_error(const Error& error) { throw std::system_error(error.code, std::generic_category(), error.op); }

namespace {

thread_local PassingErrors* t_passing = nullptr;

}  // namespace

PassingErrors::PassingErrors() noexcept : outer_(std::exchange(t_passing, this)) {}
PassingErrors::~PassingErrors() { t_passing = outer_; }

Error error_naming(int code, std::string_view op) noexcept {
  // Never destroyed: an Error may be looked at while the process exits. Bounded, since a peer may choose part of the text.
  static constexpr size_t kTextsMax = 1024;
  static std::mutex& mutex = *new std::mutex;
  static std::set<std::string, std::less<>>& texts = *new std::set<std::string, std::less<>>;
  try {
    if (t_passing != nullptr) return {code, t_passing->keep(op)};
    const std::lock_guard lock(mutex);
    auto found = texts.find(op);
    if (found == texts.end()) {
      if (texts.size() >= kTextsMax) return {code, "(too many distinct errors to name this one)"};
      found = texts.emplace(op).first;
    }
    return {code, found->c_str()};
  } catch (...) {
    return {code, "(no memory to name what failed)"};
  }
}

}  // namespace lb
