// SPDX-License-Identifier: MIT
// Messages between the user's program in the primary and in the workers.
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <vector>

#include "contract.hh"

namespace lb::test {
namespace {

/// What a primary has received: the texts, by worker.
struct Received {
  std::vector<std::pair<uint32_t, std::string>> texts;

  std::vector<std::string> of(uint32_t worker) const {
    std::vector<std::string> its;
    for (const auto& [from, text] : texts) {
      if (from == worker) its.push_back(text);
    }
    return its;
  }
  std::function<void(uint32_t, UserMessage&)> keep() {
    return [this](uint32_t worker, UserMessage& message) { texts.emplace_back(worker, message.text()); };
  }
};

/// Waits for what the primary has to say, and takes it.
bool dispatch(Worker& worker) {
  pollfd ready{.fd = worker.fd(), .events = POLLIN, .revents = 0};
  ::poll(&ready, 1, -1);
  return worker.dispatch().ok();
}

/// A worker without a listener.
int dispatch_until_drained(Worker& worker) {
  while (!worker.draining()) {
    if (!dispatch(worker)) return 4;
  }
  return 0;
}

/// Sends, and waits in between for the primary to read.
bool send_all(Worker& worker, const std::vector<std::string>& texts) {
  for (const auto& text : texts) {
    while (true) {
      const auto sent = worker.send(text);
      if (sent) break;
      if (sent.error().code != EAGAIN) return false;
      ::sched_yield();
    }
  }
  return true;
}

std::vector<std::string> many_texts() {
  std::vector<std::string> texts{"", "x", std::string(kUserMessageMax, 'l')};
  for (int i = 0; i < 300; ++i) texts.push_back("message " + std::to_string(i));
  texts.push_back(std::string(kUserMessageMax - 1, '\0'));
  texts.push_back("");
  return texts;
}

TEST(Messages, N29_texts_of_every_length_arrive_whole_and_in_order_and_are_answered_likewise) {
  Received received;
  const auto texts = many_texts();
  TestCluster cluster("auto", {.on_message = [&](uint32_t worker, UserMessage& message) {
                        received.texts.emplace_back(worker, message.text());
                        EXPECT_EQ(message.bytes().size(), message.text().size());
                        EXPECT_EQ(message.fd(), -1);
                        EXPECT_FALSE(message.fd_lost());
                        EXPECT_TRUE(message.reply(message.bytes()));
                      }});
  auto& board = cluster.board();
  const auto talk = [&](Worker& worker) {
    std::vector<std::string> answers;
    if (!worker.on_message([&](UserMessage& message) { answers.emplace_back(message.text()); })) return 5;
    for (const auto& text : texts) {
      if (!send_all(worker, {text})) return board.fail("send");
      while (answers.size() * 2 < texts.size() && &text != &texts.back()) {  // the first half one by one
        const auto before = answers.size();
        if (!dispatch(worker)) return board.fail("dispatch");
        if (answers.size() > before) break;
      }
    }
    while (answers.size() < texts.size()) {
      if (!dispatch(worker)) return board.fail("dispatch");
    }
    return answers == texts ? 0 : board.fail("the answers are not what was sent");
  };
  ASSERT_TRUE(cluster->spawn(talk));
  ASSERT_TRUE(cluster->spawn(talk));
  ASSERT_TRUE(cluster.wait_until("both to leave", [&] { return cluster->done(); }));
  EXPECT_EQ(board.failures, 0u) << board.text.data();
  for (const uint32_t worker : {1, 2}) EXPECT_TRUE(received.of(worker) == texts) << "worker " << worker;
}

TEST(Messages, N29_descriptors_travel_both_ways_close_on_exec_and_stay_the_senders) {
  UniqueFd back;
  TestCluster cluster("auto", {.on_message = [&](uint32_t, UserMessage& message) {
                        EXPECT_EQ(message.text(), "back");
                        back = message.take_fd();
                        EXPECT_EQ(message.fd(), -1);
                      }});
  auto& board = cluster.board();
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    in.reset();
    bool done = false;
    const auto set = worker.on_message([&](UserMessage& message) {
      if ((::fcntl(message.fd(), F_GETFD) & FD_CLOEXEC) == 0) board.fail("not close-on-exec");
      if (::write(message.fd(), "w", 1) != 1) board.fail("write");
      if (!worker.send("back", message.fd())) board.fail("send");
      done = true;
    });
    while (set && !done && dispatch(worker)) {
    }
    return 0;
  }));
  ASSERT_TRUE(cluster->send(1, "here", in.get()));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(board.failures, 0u) << board.text.data();
  ASSERT_TRUE(back);
  EXPECT_EQ(::fcntl(back.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(::write(back.get(), "p", 1), 1);
  back.reset();
  EXPECT_EQ(::write(in.get(), "s", 1), 1) << "the sender's own was closed";
  in.reset();
  char bytes[8] = {};
  EXPECT_EQ(::read(out.get(), bytes, sizeof bytes), 3);
  EXPECT_EQ(std::string(bytes), "wps");
  EXPECT_EQ(::read(out.get(), bytes, sizeof bytes), 0) << "somebody has kept a copy";
}

TEST(Messages, N29_what_cannot_be_sent_is_an_error_that_says_why) {
  Received received;
  TestCluster cluster("auto", {.on_message = received.keep()});
  auto& board = cluster.board();
  const std::string too_long(kUserMessageMax + 1, 'x');
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    const auto refused = worker.send(too_long);
    board.flag[0] = static_cast<uint32_t>(refused.error().code);
    std::snprintf(board.text.data(), board.text.size(), "%s", refused.error().message().c_str());
    board.flag[1] = static_cast<uint32_t>(worker.send("x", 999).error().code);
    return dispatch_until_drained(worker);
  }));
  EXPECT_EQ(cluster->send(1, too_long).error().code, EMSGSIZE);
  EXPECT_EQ(cluster->send(1, "x", 999).error().code, EBADF);
  EXPECT_EQ(cluster->send(7, "x").error().code, ESRCH);
  EXPECT_NE(cluster->send(7, "x").error().message().find("worker 7"), std::string::npos);
  ASSERT_TRUE(cluster.wait_until("the worker", [&] { return board.flag[1] != 0; }));
  EXPECT_EQ(board.flag[0], unsigned{EMSGSIZE});
  EXPECT_EQ(board.flag[1], unsigned{EBADF});
  const std::string why = board.text.data();
  EXPECT_NE(why.find("65537"), std::string::npos) << why;
  EXPECT_NE(why.find("65536"), std::string::npos) << why;
  cluster.expect_clean_shutdown();
  EXPECT_EQ(cluster->send(1, "x").error().code, ESRCH) << "it has gone";
  EXPECT_TRUE(received.texts.empty());
}

TEST(Messages, N29_worker_is_told_that_its_primary_does_not_listen) {
  TestCluster cluster("auto");
  auto& board = cluster.board();
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    board.flag[0] = static_cast<uint32_t>(worker.send("x").error().code);
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(board.flag[0], unsigned{EOPNOTSUPP});
}

TEST(Messages, N29_messages_wait_until_the_worker_listens_and_its_callback_may_replace_itself) {
  const Gate listen;
  Received received;
  TestCluster cluster("auto", {.on_message = received.keep()});
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    listen.wait();
    if (!worker.dispatch()) return 5;  // nobody listens: it leaves them there
    const auto set = worker.on_message([&](UserMessage& message) {
      (void)worker.send("first " + std::string(message.text()));
      (void)worker.on_message([&](UserMessage& next) { (void)next.reply("then " + std::string(next.text())); });
    });
    return set ? dispatch_until_drained(worker) : 5;
  }));
  for (const char* text : {"a", "b", "c"}) ASSERT_TRUE(cluster->send(1, text));
  listen.open();
  ASSERT_TRUE(cluster.wait_until("the answers", [&] { return received.texts.size() == 3; }));
  EXPECT_EQ(received.of(1), (std::vector<std::string>{"first a", "then b", "then c"}));
  cluster.expect_clean_shutdown();
}

TEST(Messages, N29_last_words_of_a_worker_come_before_its_exit) {
  Received received;
  TestCluster cluster("auto", {.on_message = received.keep()});
  ASSERT_TRUE(cluster->spawn([](Worker& worker) {
    for (int i = 0; i < 100; ++i) {
      if (!worker.send("word " + std::to_string(i))) return 5;
    }
    ::kill(::getpid(), SIGKILL);
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_exit(1));
  ASSERT_EQ(cluster.event(Event::Kind::exit, 1)->signal, SIGKILL);
  ASSERT_EQ(received.texts.size(), 100u);
  EXPECT_EQ(received.texts.back().second, "word 99");
}

TEST(Messages, N29_full_descriptor_table_costs_a_message_its_descriptor_and_nothing_else) {
  const Gate go_on;
  Received received;
  TestCluster cluster("auto", {.on_message = received.keep()});
  ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
    go_on.wait();
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const auto set = worker.on_message([&](UserMessage& message) {
      ::setrlimit(RLIMIT_NOFILE, &limit);
      (void)message.reply(std::string(message.text()) + (message.fd_lost() ? " lost" : message.fd() >= 0 ? " kept" : ""));
    });
    const rlimit none{3, limit.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
    return set ? dispatch_until_drained(worker) : 5;
  }));
  ASSERT_TRUE(cluster->send(1, "one", STDERR_FILENO));
  go_on.open();
  ASSERT_TRUE(cluster.wait_until("the first answer", [&] { return received.texts.size() == 1; }));
  ASSERT_TRUE(cluster->send(1, "two", STDERR_FILENO));
  ASSERT_TRUE(cluster.wait_until("the second answer", [&] { return received.texts.size() == 2; }));
  EXPECT_EQ(received.of(1), (std::vector<std::string>{"one lost", "two kept"}));
  cluster.expect_clean_shutdown();
}

class MessagesAnd : public PolicyTest {};
LB_FOR_EVERY_POLICY(MessagesAnd);

TEST_P(MessagesAnd, N29_worker_that_waits_in_accept_hears_them) {
  Received received;
  TestCluster cluster(policy(), {.on_message = received.keep()});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (!worker.on_message([](UserMessage& message) { (void)message.reply("heard " + std::string(message.text())); })) return 5;
    return answer_all(worker, listener, Style::blocking, board);
  }));
  for (const char* text : {"a", "b"}) {
    for (const uint32_t id : {1, 2}) ASSERT_TRUE(cluster->send(id, text));
  }
  ASSERT_TRUE(cluster.wait_until("the answers", [&] { return received.texts.size() == 4; }));
  for (const uint32_t id : {1, 2}) EXPECT_EQ(received.of(id), (std::vector<std::string>{"heard a", "heard b"}));
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(MessagesAnd, N29_worker_that_does_not_read_holds_up_neither_primary_nor_others_and_is_drained_all_the_same) {
  const Gate go_on;
  Received received;
  TestCluster cluster(policy(), {.on_message = received.keep()});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() == 2) return answer_all(worker, listener, Style::blocking, board);
    go_on.wait();
    uint32_t heard = 0;
    bool in_order = true;
    const auto set = worker.on_message([&](UserMessage& message) {
      in_order &= static_cast<unsigned char>(message.text()[0]) == heard % 256;
      ++heard;
    });
    listener.close();
    const int code = set ? dispatch_until_drained(worker) : 5;
    while (heard < board.flag[0]) {
      if (!dispatch(worker)) return board.fail("dispatch");
    }
    return in_order ? code : board.fail("out of order");
  }));
  uint32_t sent = 0;
  Result<void> result;
  while (true) {
    result = cluster->send(1, std::string(10'000, static_cast<char>(sent)));
    if (!result) break;
    ++sent;
  }
  EXPECT_EQ(result.error().code, EAGAIN);
  EXPECT_GE(sent, 6u);
  board.flag[0] = sent;
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd)) << "by worker 2";
  ASSERT_TRUE(cluster->drain(1));
  go_on.open();
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->exit_code, 0) << board.text.data();
  cluster.expect_clean_shutdown();
}

TEST_P(MessagesAnd, N29_flood_from_one_worker_starves_nobody) {
  Received received;
  uint64_t heard = 0;
  TestCluster cluster(policy(), {.on_message = [&](uint32_t, UserMessage&) { ++heard; }});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() == 2) return answer_all(worker, listener, Style::blocking, board);
    listener.close();
    while (!worker.draining()) {
      const auto sent = worker.send("on and on");
      if (!sent && sent.error().code != EAGAIN) return board.fail(sent.error().message());
      if (!worker.dispatch()) return board.fail("dispatch");
    }
    return 0;
  }));
  ASSERT_TRUE(cluster.wait_until("the flood", [&] { return heard > 1000; }));
  Crowd crowd;
  crowd.connect(cluster.address(), 50);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST(Messages, N29_worker_that_never_has_to_wait_in_accept_hears_them_too) {
  constexpr size_t kWaiting = 300;
  const Gate go_on;
  TestCluster cluster("shared");
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    uint32_t served = 0;
    if (!worker.on_message([&](UserMessage&) { board.flag[0] = served; })) return 5;
    go_on.wait();
    while (auto connection = listener.accept()) {
      answer_one(worker, *connection, board);
      ++served;
    }
    return 0;
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), kWaiting);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_until(
      "all to be queued", [&] { return crowd.count(Client::State::connected) == kWaiting; }, &crowd));
  board.flag[0] = ~0U;
  ASSERT_TRUE(cluster->send(1, "now"));
  go_on.open();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_LE(board.flag[0], 64u) << "connections served before it was heard";
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
