// SPDX-License-Identifier: MIT
// What a worker asks of the primary, as it crosses the process border. Peers are not trusted.
#include <gtest/gtest.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <string>

#include "sys/socket_options.hh"
#include "wire/listen_query.hh"

namespace lb {
namespace {

Endpoint at(const std::string& text) { return Endpoint::parse(text).value(); }

void expect_round_trip(const ListenQuery& query) {
  Message message;
  ASSERT_TRUE(query.pack(message)) << query.endpoint.to_string();
  const auto back = ListenQuery::unpack(message);
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(back->endpoint, query.endpoint);
  EXPECT_EQ(back->index, query.index);
  EXPECT_TRUE(back->options == query.options);
  EXPECT_EQ(back->bound, query.bound);
}

TEST(ListenQuery, is_read_back_as_it_was_packed) {
  expect_round_trip({at("tcp://127.0.0.1:80"), 0, {}, {}});
  expect_round_trip({at("udp://[::1]:53"), 3, {.receive_buffer = 4096}, {}});
  expect_round_trip({at("fd:http"), 1, {.backlog = INT_MAX}, {}});
  expect_round_trip({at("tcp://[::]:0"),
                     UINT32_MAX,
                     {.backlog = 0,
                      .v6only = true,
                      .exclusive = true,
                      .defer_accept_s = 65535,
                      .fast_open = 65535,
                      .receive_buffer = 1U << 30,
                      .send_buffer = 1U << 30,
                      .device = std::string(15, 'd')},
                     at("tcp://[2001:db8:1111:2222:3333:4444:5555:6666]:65535")});
  expect_round_trip({at("unix:/a\nb c"), 0, {.permissions = 0777}, {}});
}

TEST(ListenQuery, v6only_makes_no_other_endpoint_of_one_that_is_not_ipv6) {
  Message message;
  ASSERT_TRUE((ListenQuery{at("tcp://127.0.0.1:80"), 0, {.v6only = true}, {}}.pack(message)));
  EXPECT_FALSE(ListenQuery::unpack(message)->options.v6only);
}

TEST(ListenQuery, text_that_does_not_fit_is_an_error_and_not_cut_off) {
  const auto longest = at("unix:/" + std::string(106, 'p'));
  expect_round_trip({longest, 0, {.exclusive = true}, longest});
  Message message;
  const auto other = at("unix:/" + std::string(106, 'q'));  // no socket is asked for as one and bound as the other
  EXPECT_EQ((ListenQuery{longest, 0, {.exclusive = true}, other}.pack(message).error().code), EMSGSIZE);
}

Message packed(const ListenQuery& query) {
  Message message;
  EXPECT_TRUE(query.pack(message));
  return message;
}

TEST(ListenQuery, nonsense_from_a_peer_is_an_error) {
  const ListenQuery good{at("tcp://127.0.0.1:80"), 0, {}, {}};
  Message message = packed(good);
  message.value[1] = static_cast<uint32_t>(-5);
  EXPECT_FALSE(ListenQuery::unpack(message)) << "negative backlog";
  message = packed(good);
  message.value[2] = 0xffff0000;
  EXPECT_FALSE(ListenQuery::unpack(message)) << "permissions of a TCP endpoint";
  message = packed(good);
  message.value[4] = UINT32_MAX;
  EXPECT_FALSE(ListenQuery::unpack(message)) << "receive buffer";
  message = packed(good);
  message.value[2] = 2;
  message.set_text(std::string("tcp://127.0.0.1:80\0\0nonsense", 28));
  EXPECT_FALSE(ListenQuery::unpack(message)) << "exclusive, but bound to nothing that is an address";
  for (const char* text : {"", "\0", "tcp://", "nonsense", "unix:relative"}) {
    message.set_text(text);
    EXPECT_FALSE(ListenQuery::unpack(message)) << text;
  }
  message = packed(good);
  message.set_text(std::string("tcp://127.0.0.1:80\0a b\0", 23));
  EXPECT_FALSE(ListenQuery::unpack(message)) << "device";
  message.set_text(std::string("tcp://127.0.0.1:80", 18));
  EXPECT_TRUE(ListenQuery::unpack(message)) << "no device is as good as an empty one";
}

TEST(ListenQuery, every_text_that_a_peer_can_send_is_read_or_refused) {
  Message message;
  uint32_t random = 1;
  for (int round = 0; round < 500; ++round) {
    for (char& c : message.text) {
      random = random * 1664525 + 1013904223;
      c = "unix:/@\0tcpfd127.0[]"[(random >> 24) % 20];
    }
    std::memcpy(message.text, round % 2 == 0 ? "unix:/" : "fd:", round % 2 == 0 ? 6 : 3);
    message.text_length = random % (Message::kTextMax + 1);
    message.value[2] = random & 3;
    (void)ListenQuery::unpack(message);
  }
}

TEST(ListenOptionsAlike, backlog_v6only_and_exclusive_do_not_count_the_others_do) {
  const auto endpoint = at("tcp://127.0.0.1:80");
  EXPECT_TRUE(check_alike({.backlog = 1}, {.backlog = 2}, endpoint));
  const ListenOptions others[] = {{.permissions = 1},    {.defer_accept_s = 1}, {.fast_open = 1},
                                  {.receive_buffer = 1}, {.send_buffer = 1},    {.device = "d"}};
  for (const auto& other : others) {
    EXPECT_EQ(check_alike(other, {}, endpoint).error().code, EINVAL);
    EXPECT_EQ(check_alike({}, other, endpoint).error().code, EINVAL);
    EXPECT_TRUE(check_alike(other, other, endpoint));
  }
}

}  // namespace
}  // namespace lb
