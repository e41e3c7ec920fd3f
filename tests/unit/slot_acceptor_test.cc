// SPDX-License-Identifier: MIT
// reuseport: the sockets of siblings, and of slots without a worker, as a worker is told of them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include "surroundings.hh"
#include "sys/socket.hh"
#include "worker/acceptor.hh"

namespace lb::test {
namespace {

UniqueFd duplicate(const UniqueFd& fd) { return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)); }

/// A worker in slot 0, without a program, and the socket of slot 1.
class SlotAcceptor : public testing::Test {
 protected:
  SlotAcceptor() {
    place_.board = Scoreboard::create({}, 4).value();
    own_ = listen();
    other_ = listen();
    Message answer;
    acceptor_ = make_slot_acceptor(place_, answer, with(own_)).value();
    EXPECT_TRUE(acceptor_->join(epoll_.get(), 1));
  }
  static UniqueFd listen() {
    const auto endpoint = Endpoint::parse("tcp://127.0.0.1:0").value();
    auto socket = bind_to(endpoint, {}).value();
    EXPECT_TRUE(listen_on(socket.get(), 16, endpoint));
    return socket;
  }
  Packet& with(const UniqueFd& fd) {
    packet_.fds[0] = duplicate(fd);
    packet_.fd_count = 1;
    return packet_;
  }
  void tell(Act act, Packet& packet) {
    Message message;
    message.act = act;
    message.value[0] = 1;
    acceptor_->told(message, packet);
    for (auto& fd : packet.fds) fd.reset();
  }
  bool readable() {
    epoll_event event{};
    return ::epoll_wait(epoll_.get(), &event, 1, 0) == 1;
  }

  Workplace place_;
  Packet packet_;
  Packet nothing_;
  UniqueFd epoll_{::epoll_create1(EPOLL_CLOEXEC)};
  UniqueFd own_;
  UniqueFd other_;
  std::unique_ptr<Acceptor> acceptor_;
};

TEST_F(SlotAcceptor, lets_go_of_an_adopted_queue_although_it_was_told_of_the_socket_again) {
  tell(Act::adopt, with(other_));
  tell(Act::siblings, with(other_));
  const auto client = connect_to(local_address(other_.get()).value());
  EXPECT_TRUE(readable());
  tell(Act::disown, nothing_);
  EXPECT_FALSE(readable());
  acceptor_->leave();
}

}  // namespace
}  // namespace lb::test
