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

/// Texts that live as long as the process. Bounded, since a peer may choose part of them.
class KeptTexts {
 public:
  const char* keep(std::string_view text) {
    const std::lock_guard lock(mutex_);
    if (const char* kept = keep(text, kTextsMax)) return kept;
    // Then what was tried, which is its first word and ours, without its argument.
    const std::string word(text.substr(0, text.find(' ')));
    const char* kept = keep(word + " (too many distinct errors to say more)", kTextsMax + kWordsMax);
    return kept != nullptr ? kept : "(too many distinct errors to name this one)";
  }

 private:
  static constexpr size_t kTextsMax = 1024;
  static constexpr size_t kWordsMax = 64;

  /// Null: there would be more than `most`.
  const char* keep(std::string_view text, size_t most) {
    auto found = texts_.find(text);
    if (found == texts_.end()) {
      if (texts_.size() >= most) return nullptr;
      found = texts_.emplace(text).first;
    }
    return found->c_str();
  }

  std::mutex mutex_;
  std::set<std::string, std::less<>> texts_;
};

}  // namespace

PassingErrors::PassingErrors() noexcept : outer_(std::exchange(t_passing, this)) {}
PassingErrors::~PassingErrors() { t_passing = outer_; }

Error error_naming(int code, std::string_view op) noexcept {
  static KeptTexts& texts = *new KeptTexts;  // never destroyed: an Error may be looked at while the process exits
  try {
    return {code, t_passing != nullptr ? t_passing->keep(op) : texts.keep(op)};
  } catch (...) {
    return {code, "(no memory to name what failed)"};
  }
}

}  // namespace lb
