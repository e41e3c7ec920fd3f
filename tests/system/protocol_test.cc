// SPDX-License-Identifier: MIT
// The control channel: an answer finds its question, and a worker that breaks the protocol, floods it or never reads is cut off
// without harm to the others.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "contract.hh"

namespace lb::test {
namespace {

namespace fs = std::filesystem;

/// This worker's SEQPACKET sockets.
std::set<int> packet_sockets() {
  std::set<int> found;
  for (int fd = 3; fd < 1024; ++fd) {
    int type = 0;
    socklen_t length = sizeof type;
    if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_SEQPACKET) found.insert(fd);
  }
  return found;
}

/// The descriptors that an epoll instance of this process waits on (proc(5), fdinfo).
std::set<int> waited_on(int epoll_fd) {
  std::set<int> fds;
  std::ifstream about("/proc/self/fdinfo/" + std::to_string(epoll_fd));
  for (std::string word; about >> word;) {
    int fd = -1;
    if (word == "tfd:" && about >> fd) fds.insert(fd);
  }
  return fds;
}

/// The raw control channel of a worker without a message callback, or the channel of its messages.
int raw_channel(const Worker& worker, bool control) {
  const auto waited = waited_on(worker.fd());
  for (const int fd : packet_sockets()) {
    if ((waited.count(fd) != 0) == control) return fd;
  }
  return -1;
}

/// A control message as liblb lays it out: 256 bytes.
struct Raw {
  uint16_t version = 3;
  uint16_t act = 0;
  uint32_t sequence = 0;
  uint32_t acknowledged = 0;
  int32_t error = 0;
  uint32_t endpoint = 0;
  uint32_t value[6] = {};
  uint16_t text_length = 0;
  uint16_t payload_length = 0;
  char text[208] = {};
};
static_assert(sizeof(Raw) == 256);

constexpr uint16_t kWelcome = 1;
constexpr uint16_t kOnline = 64;
constexpr uint16_t kQueryListener = 65;
constexpr uint16_t kListening = 66;
constexpr uint16_t kClose = 67;
constexpr uint16_t kExited = 69;

bool send_raw(int channel, const void* bytes, size_t size, size_t fds = 0) {
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))] = {};
  iovec part{const_cast<void*>(bytes), size};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (fds != 0) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds * sizeof(int));
    for (size_t i = 0; i < fds; ++i) {
      const int fd = STDERR_FILENO;
      std::memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  return ::sendmsg(channel, &header, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

Raw message(uint16_t act, uint32_t endpoint = 0) {
  Raw raw;
  raw.act = act;
  raw.endpoint = endpoint;
  return raw;
}

/// One thing that a worker must not say.
struct Bad {
  const char* name;
  std::function<void(int channel)> say;
  bool control = true;  // else on the channel of the user's messages

  friend std::ostream& operator<<(std::ostream& out, const Bad& bad) { return out << bad.name; }
};

/// Says it again and again until somebody stops it.
void flood(int channel, const Raw& raw) {
  while (true) {
    if (!send_raw(channel, &raw, sizeof raw) && errno == EPIPE) return;
  }
}

std::vector<Bad> bad_ones() {
  const auto one = [](const Raw& raw, size_t fds = 0) { return [=](int channel) { send_raw(channel, &raw, sizeof raw, fds); }; };
  Raw version = message(kClose);
  version.version = 77;
  Raw text = message(kQueryListener);
  text.text_length = 1000;
  Raw payload = message(kQueryListener);
  payload.payload_length = 10;
  Raw large_payload = message(kQueryListener);
  large_payload.payload_length = 5000;
  return {
      {"another_version", one(version)},
      {"an_act_that_does_not_exist", one(message(999))},
      {"an_act_of_the_primarys", one(message(kWelcome))},
      {"online_twice", one(message(kOnline))},
      {"listening_where_it_does_not", one(message(kListening, 63))},
      {"listening_twice", one(message(kListening, 0))},
      {"a_descriptor", one(message(kClose, 63), 1)},
      {"several_descriptors", one(message(kClose, 63), 8)},
      {"a_short_packet", [](int channel) { send_raw(channel, "x", 1); }},
      {"a_long_packet",
       [](int channel) {
         const std::array<Raw, 2> two{};
         send_raw(channel, &two, sizeof two);
       }},
      {"a_text_longer_than_its_place", one(text)},
      {"a_payload_that_is_not_there", one(payload)},
      {"a_payload_beyond_the_limit",
       [=](int channel) {
         std::array<char, sizeof(Raw) + 5000> bytes{};
         std::memcpy(bytes.data(), &large_payload, sizeof large_payload);
         send_raw(channel, bytes.data(), bytes.size());
       }},
      {"a_payload_where_none_belongs",
       [](int channel) {
         Raw raw = message(kClose, 63);
         raw.payload_length = 4;
         std::array<char, sizeof raw + 4> bytes{};
         std::memcpy(bytes.data(), &raw, sizeof raw);
         send_raw(channel, bytes.data(), bytes.size());
       }},
      {"a_flood_of_closes", [](int channel) { flood(channel, message(kClose, 63)); }},
      {"a_flood_of_farewells", [](int channel) { flood(channel, message(kExited)); }},
      {"a_flood_of_questions_without_reading_the_answers",
       [](int channel) {
         Raw raw = message(kQueryListener);
         std::memcpy(raw.text, "tcp://nowhere", raw.text_length = 13);
         flood(channel, raw);
       }},
      {"a_short_user_message", [](int channel) { send_raw(channel, "x", 1); }, false},
      {"a_user_message_of_another_version",
       [](int channel) {
         const uint32_t header[2] = {77, 0};
         send_raw(channel, header, sizeof header);
       },
       false},
      {"a_user_message_of_another_size",
       [](int channel) {
         const uint32_t header[3] = {1, 100, 0};
         send_raw(channel, header, sizeof header);
       },
       false},
      {"a_user_message_with_two_descriptors",
       [](int channel) {
         const uint32_t header[2] = {1, 0};
         send_raw(channel, header, sizeof header, 2);
       },
       false},
  };
}

class BadTalk : public testing::TestWithParam<Bad> {};
INSTANTIATE_TEST_SUITE_P(worker_that_says, BadTalk, testing::ValuesIn(bad_ones()),
                         [](const auto& bad) { return std::string(bad.param.name); });

TEST_P(BadTalk, N8_is_cut_off_and_the_others_go_on) {
  const auto& bad = GetParam();
  const Gate say;
  const Gate never;
  TestCluster cluster("round-robin", {.respawn = false, .on_message = [](uint32_t, UserMessage&) { ADD_FAILURE() << "heard"; }});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    const int own = raw_channel(worker, bad.control);  // before there is the channel of hand-offs too
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() == 2) return answer_all(worker, listener, Style::blocking, board);
    if (own < 0) return board.fail("it has no such channel");
    say.wait();
    bad.say(own);
    never.wait();
    return 0;
  }));
  say.open();
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->signal, SIGKILL);
  EXPECT_FALSE(cluster.event(Event::Kind::exit, 1)->expected);
  EXPECT_EQ(board.failures, 0u) << board.text.data();
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd)) << "by worker 2";
  EXPECT_EQ(cluster.count(Event::Kind::listening), 2u);
  EXPECT_TRUE(cluster.shut_down());
}

class Protocol : public PolicyTest {};
LB_FOR_EVERY_POLICY(Protocol);

TEST_P(Protocol, N8_answer_finds_its_question_though_other_messages_come_before_it) {
  const Gate ask;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  const auto serve = [&](Worker& worker) {
    auto first = worker.listen(kAnyPort).value();
    if (worker.id() != 1) return answer_all(worker, first, Style::blocking, board);
    ask.wait();
    // By now there wait for it: siblings, under reuseport; the word to drain; messages.
    auto second = worker.listen("tcp://[::1]:0");
    board.flag[0] = second && second->address().family() == AF_INET6 ? 1 : 2;
    const auto third = worker.listen("tcp://192.0.2.1:1");  // not an address of this machine
    board.flag[1] = static_cast<uint32_t>(third.error().code);
    board.flag[2] = worker.draining() ? 1 : 2;
    return 0;
  };
  ASSERT_TRUE(cluster.start(1, serve));
  ASSERT_TRUE(cluster.start(2, serve));
  ASSERT_TRUE(cluster->drain(1));
  ASSERT_TRUE(cluster->send(1, "a message"));
  ask.open();
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(board.flag[0], 1u);
  EXPECT_EQ(board.flag[1], unsigned{EADDRNOTAVAIL});
  EXPECT_EQ(board.flag[2], 1u);
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Protocol, N8_worker_that_never_reads_stalls_nobody_and_is_killed_at_its_deadline) {
  const Gate never;
  TestCluster cluster(policy(), {.drain_deadline = std::chrono::milliseconds(200)});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    if (worker.id() != 1) return answer_all(worker, listener, Style::blocking, board);
    never.wait();
    return 0;
  }));
  while (cluster->send(1, "unread")) {
  }
  for (int i = 0; i < 6; ++i) {  // each that comes or goes is news to worker 1, under reuseport
    ASSERT_TRUE(cluster.start(1, Style::blocking));
    const auto newest = cluster->status().workers.back();
    ::kill(newest.pid, SIGKILL);
    ASSERT_TRUE(cluster.wait_exit(newest.id));
  }
  Crowd crowd;
  crowd.connect(cluster.address(), 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  ASSERT_TRUE(cluster->drain(1));
  ASSERT_TRUE(cluster.wait_exit(1));
  EXPECT_EQ(cluster.event(Event::Kind::exit, 1)->signal, SIGKILL);
  EXPECT_TRUE(cluster.shut_down());
}

}  // namespace
}  // namespace lb::test
