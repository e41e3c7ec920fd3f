// SPDX-License-Identifier: MIT
// The channel of the user's messages. Peers are not trusted.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <string>

#include "wire/channel.hh"
#include "wire/user_channel.hh"

namespace lb {
namespace {

class UserChannel : public testing::Test {
 protected:
  Result<UserInbox::State> receive() {
    return inbox_.receive(ends_.second.get(), [this](UserMessage& message) {
      text_ = message.text();
      fd_ = message.take_fd();
    });
  }
  Result<void> send(std::string_view text, int fd = -1) { return send_user_message(ends_.first.get(), bytes_of(text), fd); }

  std::pair<UniqueFd, UniqueFd> ends_ = make_user_channel().value();
  UserInbox inbox_;
  std::string text_ = "nothing";
  UniqueFd fd_;
};

TEST_F(UserChannel, empty_message_is_a_message_and_not_the_end) {
  EXPECT_EQ(receive().value(), UserInbox::State::nothing);
  ASSERT_TRUE(send(""));
  EXPECT_EQ(receive().value(), UserInbox::State::received);
  EXPECT_EQ(text_, "");
  ends_.first.reset();
  EXPECT_EQ(receive().value(), UserInbox::State::closed);
}

TEST_F(UserChannel, longest_message_fits_and_one_byte_more_is_emsgsize) {
  ASSERT_TRUE(send(std::string(kUserMessageMax, 'x')));
  EXPECT_EQ(receive().value(), UserInbox::State::received);
  EXPECT_EQ(text_, std::string(kUserMessageMax, 'x'));
  EXPECT_EQ(send(std::string(kUserMessageMax + 1, 'x')).error().code, EMSGSIZE);
}

TEST_F(UserChannel, descriptor_that_nobody_takes_is_closed) {
  const UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(send("with", fd.get()));
  int number = -1;
  ASSERT_TRUE(inbox_.receive(ends_.second.get(), [&](UserMessage& message) { number = message.fd(); }));
  ASSERT_GE(number, 0);
  EXPECT_LT(::fcntl(number, F_GETFD), 0);
}

TEST_F(UserChannel, full_channel_and_one_that_nobody_reads_any_more_say_so) {
  Result<void> sent;
  for (int i = 0; sent && i < 100'000; ++i) sent = send("unread");
  EXPECT_EQ(sent.error().code, EAGAIN);
  ends_.second.reset();
  EXPECT_EQ(send("x").error().code, EPIPE);
  EXPECT_EQ(send("x").error().code, EPIPE);
}

TEST_F(UserChannel, packet_that_is_no_message_breaks_the_protocol) {
  const uint32_t version[] = {77, 0};
  const uint32_t size[] = {1, 100};
  const std::array<char, kUserMessageMax + 9> long_one{1};
  ASSERT_TRUE(send_packet(ends_.first.get(), "x", 1, {}));
  ASSERT_TRUE(send_packet(ends_.first.get(), version, sizeof version, {}));
  ASSERT_TRUE(send_packet(ends_.first.get(), size, sizeof size, {}));
  ASSERT_TRUE(send_packet(ends_.first.get(), long_one.data(), long_one.size(), {}));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(receive().error().code, EPROTO) << i;
  EXPECT_EQ(text_, "nothing");
}

}  // namespace
}  // namespace lb
