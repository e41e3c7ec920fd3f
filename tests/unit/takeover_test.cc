// SPDX-License-Identifier: MIT
// A new primary, with the test as the one that it takes over from.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include <lb/lb.hh>

#include "sys/socket.hh"
#include "wire/channel.hh"
#include "wire/listen_query.hh"

namespace lb {
namespace {

class Takeover : public testing::Test {
 protected:
  static constexpr uint32_t kCell = 7;

  void SetUp() override {
    auto ends = make_channel().value();
    old_ = Channel(std::move(ends.first), Message::kHandOverVersion);
    ::setenv("LB_UPGRADE_FD", std::to_string(ends.second.release()).c_str(), 1);
    socket_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const auto any = Endpoint::parse("tcp://127.0.0.1:0").value();
    ASSERT_EQ(::bind(socket_.get(), any.address(), any.length()), 0);
    ASSERT_EQ(::listen(socket_.get(), 16), 0);
    endpoint_ = local_address(socket_.get()).value();
    Options options;
    options.policy = Policy::parse("shared").value();
    options.on_event = [this](const Event& event) { online_ |= event.kind == Event::Kind::online; };
    cluster_ = Cluster::create(std::move(options)).value();
    const auto spawned = cluster_->spawn_thread([this](Worker& worker) {
      auto listener = worker.listen(endpoint_);
      while (listener && listener->accept()) {
      }
      return listener ? 0 : 1;
    });
    ASSERT_TRUE(spawned);
  }
  void TearDown() override {
    cluster_->shutdown();
    while (!cluster_->done()) (void)cluster_->poll(std::chrono::milliseconds(-1));
    EXPECT_EQ(cluster_->exit_code(), 0);
  }

  /// What there is: the one socket; `last` says whether it may be taken.
  void tell(Act last) {
    Message heirloom;
    heirloom.act = Act::heirloom;
    heirloom.endpoint = kCell;
    ASSERT_TRUE((ListenQuery{endpoint_, 0, {}, {}}).pack(heirloom));
    ASSERT_TRUE(old_.send(heirloom));
    Message socket;
    socket.act = Act::sockets;
    socket.endpoint = kCell;
    socket.value[0] = static_cast<uint32_t>(HeirloomSocket::first);
    const int fd = socket_.get();
    ASSERT_TRUE(old_.send(socket, {&fd, 1}));
    Message end;
    end.act = last;
    end.value[0] = 1;
    ASSERT_TRUE(old_.send(end));
  }
  /// What the new one says next.
  Message next() {
    Message message;
    Packet packet;
    for (;;) {
      EXPECT_TRUE(cluster_->poll(std::chrono::milliseconds(10)));
      EXPECT_TRUE(old_.receive(message, packet));
      if (packet.state != Packet::State::nothing) return message;
    }
  }

  Channel old_;
  UniqueFd socket_;
  Endpoint endpoint_;
  bool online_ = false;
  std::optional<Cluster> cluster_;
};

TEST_F(Takeover, worker_that_asks_before_the_new_primary_has_been_told_what_there_is_waits_for_what_it_may_take) {
  while (!online_) ASSERT_TRUE(cluster_->poll(std::chrono::milliseconds(-1)));
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(cluster_->poll(std::chrono::milliseconds(5)));  // its question is there by now
  tell(Act::told);
  EXPECT_EQ(next().act, Act::ready);
  tell(Act::yours);
  const Message took = next();
  EXPECT_EQ(took.act, Act::took) << "else the old one turns clients away for good, on a socket that is ours too";
  EXPECT_EQ(took.endpoint, kCell);
  EXPECT_EQ(next().act, Act::serving);
  old_.close();
}

}  // namespace
}  // namespace lb
