// SPDX-License-Identifier: MIT
#include "new_threads.hh"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

namespace lb::test {
namespace {

std::set<std::string> tasks() {
#ifdef __SANITIZE_THREAD__
  [[maybe_unused]] static const bool begun = [] {  // the sanitizer begins one of its own with the first
    std::thread([] {}).join();
    return true;
  }();
#endif
  std::set<std::string> ids;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) ids.insert(task.path().filename());
  return ids;
}

}  // namespace

NewThreads::NewThreads() : before_(tasks()) {}

size_t NewThreads::running() const {
  const auto now = tasks();
  return std::count_if(now.begin(), now.end(), [this](const auto& id) { return !before_.contains(id); });
}

bool NewThreads::wait_ended() const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (running() != 0) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace lb::test
