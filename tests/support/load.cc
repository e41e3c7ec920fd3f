// SPDX-License-Identifier: MIT
#include "load.hh"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "client.hh"

namespace lb::test {

Load::Load(const LoadPlan& plan) {
  std::fflush(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close_range(3, ~0U, 0);  // the primary's sockets and channels
    run(plan, *result_);
    ::_exit(0);
  }
  if (pid_ < 0) {
    ADD_FAILURE() << "fork: " << std::strerror(errno);
    return;
  }
  pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
}

Load::~Load() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool Load::over() const noexcept {
  pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, 0) == 1;
}

std::vector<unsigned> Load::per_worker() const { return {result_->by_worker.begin(), result_->by_worker.end()}; }

std::string Load::describe() const {
  return "  load: " + std::to_string(started()) + " started, " + std::to_string(answered()) + " answered, " +
         std::to_string(refused()) + " refused, " + std::to_string(lost()) + " lost (" + std::to_string(lost_unheard()) +
         " unheard) " + result_->first_loss.data() + (over() ? ", over\n" : ", running\n");
}

void Load::run(const LoadPlan& plan, Result& result) {
  std::vector<Client> clients;
  std::vector<pollfd> interests;
  bool turned_away = false;
  while (true) {
    while (clients.size() < plan.at_once && result.started < plan.count && !result.stop && !turned_away) {
      clients.emplace_back(plan.to, result.started++ % Board::kNumbers).ask();
    }
    if (clients.empty()) return;
    interests.clear();
    for (const auto& client : clients) interests.push_back(client.interest());
    const bool some_over = std::any_of(clients.begin(), clients.end(), [](const Client& c) { return c.over(); });
    ::poll(interests.data(), interests.size(), some_over ? 0 : -1);
    for (auto& client : clients) {
      client.step();
      if (!client.over()) continue;
      if (client.state() == Client::State::finished) {
        ++result.answered;
        ++result.by_worker[client.worker() % Board::kWorkers];
      } else if (client.state() == Client::State::refused) {
        ++result.refused;
        turned_away = plan.until_refused;
      } else {
        if (!client.greeted()) ++result.lost_unheard;
        if (result.lost++ == 0)
          std::snprintf(result.first_loss.data(), result.first_loss.size(), "(%s)", client.describe().c_str());
      }
    }
    clients.erase(std::remove_if(clients.begin(), clients.end(), [](const Client& c) { return c.over(); }), clients.end());
  }
}

}  // namespace lb::test
