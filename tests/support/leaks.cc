// SPDX-License-Identifier: MIT
#include "leaks.hh"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>

namespace lb::test {
namespace {

namespace fs = std::filesystem;

std::map<int, std::string> open_fds() {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/fd"), ::closedir);
  std::map<int, std::string> fds;
  while (const dirent* entry = folder ? ::readdir(folder.get()) : nullptr) {
    if (entry->d_name[0] == '.') continue;
    const int fd = std::atoi(entry->d_name);
    if (fd == ::dirfd(folder.get())) continue;
    std::error_code gone;
    fds[fd] = fs::read_symlink(fs::path("/proc/self/fd") / entry->d_name, gone).string();
  }
  return fds;
}

std::vector<pid_t> own_children() {
  const auto self = std::to_string(::getpid());
  std::ifstream file("/proc/self/task/" + self + "/children");
  std::vector<pid_t> children;
  for (pid_t pid = 0; file >> pid;) children.push_back(pid);
  return children;
}

class LeakListener : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { before_.emplace(); }
  void OnTestEnd(const testing::TestInfo&) override {
    before_->check();
    before_.reset();
  }
  std::optional<Leaks> before_;
};

}  // namespace

Leaks::Leaks() : fds_(open_fds()) {}

void Leaks::check() const {
  EXPECT_TRUE(threads_.wait_ended()) << threads_.running() << " threads were left running";
  check_children();
  check_fds();
}

void Leaks::check_fds() const {
  for (const auto& [fd, target] : open_fds()) {
    EXPECT_TRUE(fds_.count(fd) == 1) << "descriptor " << fd << " was left open: " << target;
  }
}

void Leaks::check_children() const {
  for (const pid_t pid : own_children()) {
    const bool ended = ::waitpid(pid, nullptr, WNOHANG) == pid;
    ADD_FAILURE() << "child " << pid << (ended ? " was left unreaped" : " was left running");
    if (!ended && ::kill(pid, SIGKILL) == 0) ::waitpid(pid, nullptr, 0);
  }
  EXPECT_TRUE(::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD) << "a child was left";
}

void install_leak_listener() {
  testing::UnitTest::GetInstance()->listeners().Append(new LeakListener);  // which owns it
}

}  // namespace lb::test
