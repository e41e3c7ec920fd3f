// SPDX-License-Identifier: MIT
#include "follow.hh"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

namespace lbctl {
namespace {

constexpr auto kPause = std::chrono::milliseconds(100);

/// On a terminal one line that is written over, else a line for each change.
class Teller {
 public:
  void tell(const std::string& text) {
    if (text == last_) return;
    fmt::print(stderr, "{}{}{}", terminal_ ? "\r" : "", text, terminal_ ? "\x1b[K" : "\n");
    std::fflush(stderr);
    last_ = text;
  }
  ~Teller() {
    if (terminal_ && !last_.empty()) fmt::print(stderr, "\n");
  }

 private:
  bool terminal_ = ::isatty(STDERR_FILENO) != 0;
  std::string last_;
};

}  // namespace

void follow(const Primary& primary, const std::function<Progress(const Snapshot&)>& look, bool changes_hands) {
  Teller teller;
  for (;; std::this_thread::sleep_for(kPause)) {
    const auto progress = look(Snapshot::parse(changes_hands ? primary.ask_patiently("status") : primary.ask("status")));
    if (progress.state == Progress::State::failed) throw Failure(kRefused, progress.text);
    teller.tell(progress.text);
    if (progress.state == Progress::State::done) return;
  }
}

}  // namespace lbctl
