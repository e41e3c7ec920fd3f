// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <lb/lb.hh>
#include <string>

#include "test_cluster.hh"

namespace lb::test {

/// A process that calls lb::run, with its standard error in a pipe.
class Server {
 public:
  Server(Options options, const WorkerFunction& worker) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    error_.reset(ends[0]);
    const UniqueFd write_end(ends[1]);
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(write_end.get(), STDERR_FILENO);
      ::close_range(3, ~0U, 0);
      ::_exit(lb::run(std::move(options), worker));
    }
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    if (!ended()) signal(SIGKILL);
    wait();
  }

  pid_t pid() const noexcept { return pid_; }
  void signal(int number) const noexcept { ::kill(pid_, number); }

  /// The exit code; 128 + the signal that ended it.
  int wait() {
    if (pid_ <= 0) return code_;
    EXPECT_TRUE(wait_until("the server to end", [&] { return ended(); })) << error();
    return code_;
  }

  /// What it has said on standard error by now.
  const std::string& error() {
    std::array<char, 4096> buffer{};
    for (ssize_t n = 0; (n = ::read(error_.get(), buffer.data(), buffer.size())) > 0;) {
      text_.append(buffer.data(), static_cast<size_t>(n));
    }
    return text_;
  }
  bool says(const std::string& part) { return error().find(part) != std::string::npos; }

 private:
  bool ended() {
    int status = 0;
    if (pid_ <= 0) return true;
    if (::waitpid(pid_, &status, WNOHANG) != pid_) return false;
    pid_ = -1;
    code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
  }

  pid_t pid_ = -1;
  int code_ = -1;
  UniqueFd error_;
  std::string text_;
};

}  // namespace lb::test
