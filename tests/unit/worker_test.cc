// SPDX-License-Identifier: MIT
// A worker's end of the control channel, with the test as its primary.
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <thread>

#include "wire/listen_query.hh"
#include "wire/user_channel.hh"
#include "worker/listener_impl.hh"
#include "worker/worker_impl.hh"

namespace lb {
namespace {

class WorkerChannel : public testing::Test {
 protected:
  void SetUp() override {
    auto ends = make_channel().value();
    channel_ = Channel(std::move(ends.first));
    board_ = Scoreboard::create(UniqueFd(), 4).value();
    Message welcome;
    welcome.act = Act::welcome;
    welcome.value[1] = 4;
    const auto messages = make_user_channel().value();
    const int fds[] = {board_.worker_pages_fd(), board_.primary_page_fd(), doorbell_.get(), messages.second.get()};
    ASSERT_TRUE(channel_.send(welcome, fds));
    worker_ = Worker::Impl::start(1, std::move(ends.second), UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))).value();
    EXPECT_EQ(next().act, Act::online);
  }

  /// The next message from the worker.
  Message next() {
    Message message;
    Packet packet;
    std::array<char, Message::kPayloadMax> room;
    do {
      EXPECT_TRUE(channel_.receive(message, packet, room));
      std::this_thread::yield();
    } while (packet.state == Packet::State::nothing);
    EXPECT_EQ(packet.state, Packet::State::received);
    return message;
  }
  void say(Act act, uint32_t acknowledged, int error = 0, const char* text = "") {
    Message message;
    message.act = act;
    message.acknowledged = acknowledged;
    message.error = error;
    message.set_text(text);
    ASSERT_TRUE(channel_.send(message));
  }

  UniqueFd doorbell_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  Scoreboard board_;
  Channel channel_;
  std::unique_ptr<Worker::Impl> worker_;
};

TEST(WorkerStart, primary_of_another_liblb_is_refused_with_both_versions) {
  auto ends = make_channel().value();
  Channel primary(std::move(ends.first), 77);
  Message welcome;
  welcome.act = Act::welcome;
  ASSERT_TRUE(primary.send(welcome));
  const auto worker = Worker::Impl::start(1, std::move(ends.second), UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
  ASSERT_FALSE(worker);
  EXPECT_EQ(worker.error().code, EPROTONOSUPPORT);
  EXPECT_NE(worker.error().message().find("version 77"), std::string::npos) << worker.error().message();
}

TEST_F(WorkerChannel, N8_answer_is_told_by_the_number_it_acknowledges) {
  std::array<Error, 2> errors{};
  std::thread asking([&] {
    for (auto& error : errors) error = worker_->listen(Endpoint::parse("tcp://127.0.0.1:0").value(), {}).error();
  });
  for (const int own : {EADDRINUSE, EACCES}) {
    const auto question = next();
    EXPECT_EQ(question.act, Act::query_listener);
    EXPECT_EQ(ListenQuery::unpack(question)->endpoint.to_string(), "tcp://127.0.0.1:0");
    say(Act::nudge, 0);
    say(Act::listener, question.sequence - 1, ENOMEM, "of an earlier question");
    say(Act::listener, question.sequence + 1, ENOMEM, "of a later question");
    say(Act::drain, 0);
    say(Act::listener, question.sequence, own, "its own");
  }
  asking.join();
  EXPECT_EQ(errors[0].code, EADDRINUSE);
  EXPECT_EQ(errors[1].code, EACCES);
  EXPECT_STREQ(errors[0].op, "its own");
  EXPECT_TRUE(worker_->draining()) << "what came in between was heard";
}

TEST_F(WorkerChannel, N8_question_whose_answer_never_comes_ends_with_the_primary) {
  Error error;
  std::thread asking([&] { error = worker_->listen(Endpoint::parse("tcp://127.0.0.1:0").value(), {}).error(); });
  EXPECT_EQ(next().act, Act::query_listener);
  channel_.close();
  asking.join();
  EXPECT_EQ(error.code, EPIPE);
  EXPECT_TRUE(worker_->draining());
}

}  // namespace
}  // namespace lb
