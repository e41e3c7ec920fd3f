// SPDX-License-Identifier: MIT
#pragma once

#include <sys/epoll.h>

#include <cstring>
#include <random>
#include <string>

#include <bpf/bpf.h>

#include "reuseport_group.hh"

namespace lb::bench {

using Rung = ReuseportProgram::Rung;

inline bool describe(int program, bpf_prog_info& about) {
  uint32_t size = sizeof about;
  about = {};
  return bpf_obj_get_info_by_fd(program, &about, &size) == 0;
}

/// The kernel's own account of a program's runs (BPF_ENABLE_STATS).
struct Account {
  uint64_t time_ns = 0;
  uint64_t runs = 0;

  double since(const Account& before) const {
    return static_cast<double>(time_ns - before.time_ns) / static_cast<double>(runs - before.runs);
  }
};

/// Of the newest program of ours: the one just loaded.
inline Account account() {
  Account account;
  bpf_prog_info about;
  for (uint32_t id = 0; bpf_prog_get_next_id(id, &id) == 0;) {
    const UniqueFd fd(bpf_prog_get_fd_by_id(id));
    if (fd && describe(fd.get(), about) && std::string(about.name).rfind("select_", 0) == 0)
      account = {about.run_time_ns, about.run_cnt};
  }
  return account;
}

/// What the slots are busy with.
enum class State { idle, in_flight, queued };

/// A reuseport group whose program picks for each connect, its queues emptied in the workers' stead.
class PickedGroup {
 public:
  PickedGroup(Rung rung, uint32_t slots, State state) : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    error_ = sockets_.open(slots, rung);
    if (!error_.empty()) return;
    std::minstd_rand random(1);
    for (uint32_t slot = 0; slot < slots; slot++) {
      epoll_event event{EPOLLIN, {.u32 = slot}};
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, sockets_.listener(slot), &event);
      if (state == State::in_flight) sockets_.page(slot).in_flight = static_cast<uint32_t>(random() % 16);
    }
    if (state == State::queued && !sockets_.connect_many(static_cast<int>(2 * slots))) error_ = "connect";
  }

  const std::string& error() const { return error_; }
  test::ReuseportGroup& sockets() { return sockets_; }

  /// One connection, and one that is queued is taken.
  bool pick() {
    if (sockets_.connect() < 0) return false;
    epoll_event event{};
    if (::epoll_wait(epoll_.get(), &event, 1, 1000) != 1) return true;
    const linger at_once{1, 0};
    UniqueFd connection(::accept4(sockets_.listener(event.data.u32), nullptr, nullptr, SOCK_CLOEXEC));
    ::setsockopt(connection.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    sockets_.page(event.data.u32).cells[0].settled++;
    sockets_.page(event.data.u32).heartbeat++;
    return true;
  }

 private:
  test::ReuseportGroup sockets_;
  UniqueFd epoll_;
  std::string error_;
};

}  // namespace lb::bench
