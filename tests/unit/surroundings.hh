// SPDX-License-Identifier: MIT
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "backends/backend.hh"

namespace lb::test {

/// What a primary lends to a backend, and workers of which there are only the pages, and what they would have been told.
class TestSurroundings {
 public:
  struct Said {
    uint32_t worker;
    Act act;
    uint32_t slot;
  };

  explicit TestSurroundings(uint32_t slots, std::unique_ptr<EventLoop> loop = EventLoop::create_epoll().value())
      : loop_(std::move(loop)) {
    board_ = Scoreboard::create({}, slots).value();
    around_ = std::make_unique<Surroundings>(
        Surroundings{*loop_, reason_, board_, -1, 4, 1024, 0, nullptr, true, false,
                     [this](uint32_t worker, Message& message, std::span<const int>) -> Result<void> {
                       if (std::find(deaf.begin(), deaf.end(), worker) != deaf.end()) return Error{EAGAIN, "sendmsg"};
                       said.push_back({worker, message.act, message.value[0]});
                       return {};
                     },
                     inherited_, [](uint32_t, Event::Kind) {}});
  }

  Surroundings& get() noexcept { return *around_; }
  lb_worker_page& page(uint32_t slot) noexcept { return board_.page(slot); }
  void beat(uint32_t slot) noexcept { atomic(page(slot).heartbeat).fetch_add(1); }
  EventLoop& loop() noexcept { return *loop_; }

  ptrdiff_t count(uint32_t worker, Act act) const {
    return std::count_if(said.begin(), said.end(), [=](const Said& each) { return each.worker == worker && each.act == act; });
  }

  std::vector<Said> said;
  std::vector<uint32_t> deaf;  ///< workers whose channel is full

 private:
  std::unique_ptr<EventLoop> loop_;
  std::string reason_;
  Scoreboard board_;
  InheritedSockets inherited_;
  std::unique_ptr<Surroundings> around_;
};

/// As the primary's loop drives a backend that has something to do from time to time.
inline void drive(EndpointBackend& backend, int turns) {
  for (int i = 0; i < turns; ++i) {
    ::poll(nullptr, 0, backend.next_turn_ms());
    backend.turn();
  }
}

/// A client of an IPv4 endpoint.
inline UniqueFd connect_to(const Endpoint& endpoint, int type = SOCK_STREAM) {
  UniqueFd client(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(client.get(), endpoint.address(), endpoint.length()), 0) << endpoint.to_string();
  return client;
}

}  // namespace lb::test
