// SPDX-License-Identifier: MIT
// The admin socket's clients, whatever is answered: slow ones, many, and those that want much.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "primary/admin_socket.hh"

namespace lb {
namespace {

constexpr size_t kMuch = 8 << 20;  // more than a socket buffers

class Client {
 public:
  explicit Client(const Endpoint& to) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    connected_ = ::connect(fd_.get(), to.address(), to.length()) == 0;
  }
  void say(const std::string& text) const { ASSERT_EQ(::send(fd_.get(), text.data(), text.size(), 0), ssize_t(text.size())); }
  bool over() {
    char buffer[65536];
    ssize_t n = 0;
    while ((n = ::recv(fd_.get(), buffer, sizeof buffer, 0)) > 0) heard_.append(buffer, static_cast<size_t>(n));
    return n == 0 || errno != EAGAIN;
  }
  bool hung_up() const {
    pollfd about{.fd = fd_.get(), .events = 0, .revents = 0};
    return ::poll(&about, 1, 0) == 1 && (about.revents & POLLHUP) != 0;
  }
  bool connected() const { return connected_; }
  const std::string& heard() const { return heard_; }

 private:
  UniqueFd fd_;
  bool connected_ = false;
  std::string heard_;
};

class AdminClients : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto loop = GetParam() == "io_uring" ? EventLoop::create_uring() : EventLoop::create_epoll();
    if (!loop) GTEST_SKIP() << loop.error().message();
    loop_ = std::move(*loop);
    const std::string name = "@lb-admin-clients-" + std::to_string(::getpid());
    address_ = Endpoint::parse("unix:" + name).value();
    socket_ = AdminSocket::open(*loop_, name, [this](std::string_view request) { return answer(request); }).value();
  }
  std::string answer(std::string_view request) {
    requests_.emplace_back(request);
    return request == "much" ? std::string(kMuch, 'x') : "you said " + std::string(request);
  }
  /// Turns as the primary does until `enough`; what never comes fails by the test's own timeout.
  template <class Enough>
  void turn_until(Enough enough) {
    while (!enough()) {
      const int wanted = socket_->next_turn_ms();
      loop_->turn(wanted >= 0 && wanted < 10 ? wanted : 10).value();
      socket_->turn();
    }
  }

  std::unique_ptr<EventLoop> loop_;
  Endpoint address_;
  std::unique_ptr<AdminSocket> socket_;
  std::vector<std::string> requests_;
};

TEST_P(AdminClients, request_may_come_in_pieces_and_what_follows_the_line_is_not_heard) {
  Client client(address_);
  for (const char* piece : {"hel", "lo", " you\nmore\n"}) {
    client.say(piece);
    loop_->turn(10).value();
  }
  turn_until([&] { return client.over(); });
  EXPECT_EQ(client.heard(), "you said hello you\n");
  EXPECT_EQ(requests_.size(), 1u);
}

TEST_P(AdminClients, line_without_end_is_answered_at_its_longest) {
  Client client(address_);
  client.say(std::string(2 * kAdminRequestMax, 'y'));
  turn_until([&] { return client.over(); });
  EXPECT_EQ(client.heard(), "you said " + std::string(kAdminRequestMax, 'y') + "\n");
}

TEST_P(AdminClients, answer_longer_than_any_buffer_arrives_whole) {
  Client client(address_);
  client.say("much\n");
  turn_until([&] { return client.over(); });
  EXPECT_EQ(client.heard(), std::string(kMuch, 'x') + "\n");
}

TEST_P(AdminClients, who_does_not_read_is_cut_off_and_meanwhile_others_are_answered) {
  Client deaf(address_);
  deaf.say("much\n");
  turn_until([&] { return requests_.size() == 1; });
  Client other(address_);
  other.say("hello\n");
  turn_until([&] { return other.over(); });
  EXPECT_EQ(other.heard(), "you said hello\n");
  EXPECT_FALSE(deaf.hung_up());
  turn_until([&] { return deaf.hung_up(); });
  EXPECT_TRUE(deaf.over());
  EXPECT_LT(deaf.heard().size(), kMuch);
  EXPECT_EQ(socket_->next_turn_ms(), -1) << "nobody is left to wait for";
}

TEST_P(AdminClients, many_at_once_are_all_answered) {
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 16; ++i) {
    clients.push_back(std::make_unique<Client>(address_));
    ASSERT_TRUE(clients.back()->connected());
    clients.back()->say(std::to_string(i) + "\n");
  }
  for (int i = 0; i < 16; ++i) {
    turn_until([&] { return clients[i]->over(); });
    EXPECT_EQ(clients[i]->heard(), "you said " + std::to_string(i) + "\n");
  }
}

TEST_P(AdminClients, who_leaves_before_or_after_asking_is_forgotten) {
  for (const char* last_words : {"", "hel", "much\n"}) {
    Client client(address_);
    client.say(last_words);
  }
  turn_until([&] { return requests_.size() == 1; });
  turn_until([&] { return socket_->next_turn_ms() == -1; });
}

INSTANTIATE_TEST_SUITE_P(every, AdminClients, testing::Values("io_uring", "epoll"), [](const auto& of) { return of.param; });

}  // namespace
}  // namespace lb
