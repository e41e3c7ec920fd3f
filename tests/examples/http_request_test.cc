// SPDX-License-Identifier: MIT
#include "http_request.hh"

#include <gtest/gtest.h>

#include <string>

namespace example {
namespace {

using State = HttpParse::State;

HttpParse parse(std::string_view bytes) { return parse_http_request(bytes); }

int status_of(std::string_view bytes) {
  const auto parsed = parse(bytes);
  return parsed.state == State::error ? parsed.status : 0;
}

TEST(HttpRequest, reads_method_path_and_length) {
  const std::string_view bytes = "GET /sleep/10?x=1 HTTP/1.1\r\nHost: a\r\n\r\nGET / HT";
  const auto parsed = parse(bytes);
  ASSERT_EQ(parsed.state, State::complete);
  EXPECT_EQ(parsed.request.method, "GET");
  EXPECT_EQ(parsed.request.path, "/sleep/10");
  EXPECT_EQ(parsed.request.minor_version, 1);
  EXPECT_EQ(bytes.substr(parsed.request.head_bytes), "GET / HT");
}

TEST(HttpRequest, every_prefix_is_incomplete) {
  const std::string_view bytes = "HEAD /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(parse(bytes.substr(0, length)).state, State::incomplete) << length;
  }
  EXPECT_EQ(parse(bytes).state, State::complete);
}

TEST(HttpRequest, lines_may_end_in_lf_and_empty_lines_may_come_first) {
  const std::string_view bytes = "\r\n\nGET / HTTP/1.0\n\n";
  const auto parsed = parse(bytes);
  ASSERT_EQ(parsed.state, State::complete);
  EXPECT_EQ(parsed.request.head_bytes, bytes.size());
}

TEST(HttpRequest, absolute_form_gives_the_path) {
  EXPECT_EQ(parse("GET http://a:80/b?c HTTP/1.1\r\nHost: a\r\n\r\n").request.path, "/b");
  EXPECT_EQ(parse("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").request.path, "/");
}

struct KeepAliveCase {
  const char* head;
  bool keep_alive;
};
class HttpRequestKeepAlive : public testing::TestWithParam<KeepAliveCase> {};

TEST_P(HttpRequestKeepAlive, follows_version_and_connection_header) {
  const auto parsed = parse(GetParam().head);
  ASSERT_EQ(parsed.state, State::complete) << GetParam().head;
  EXPECT_EQ(parsed.request.keep_alive, GetParam().keep_alive) << GetParam().head;
}

INSTANTIATE_TEST_SUITE_P(All, HttpRequestKeepAlive,
                         testing::Values(KeepAliveCase{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
                                         KeepAliveCase{"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
                                         KeepAliveCase{"GET / HTTP/1.1\r\nHost: a\r\nconnection: Foo , CLOSE\r\n\r\n", false},
                                         KeepAliveCase{"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, keep-alive\r\n\r\n", false},
                                         KeepAliveCase{"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true},
                                         KeepAliveCase{"GET / HTTP/1.0\r\n\r\n", false},
                                         KeepAliveCase{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true}));

struct FaultCase {
  const char* head;
  int status;
};
class HttpRequestFault : public testing::TestWithParam<FaultCase> {};

TEST_P(HttpRequestFault, is_answered_with_its_status) {
  EXPECT_EQ(status_of(GetParam().head), GetParam().status) << GetParam().head;
}

INSTANTIATE_TEST_SUITE_P(
    All, HttpRequestFault,
    testing::Values(FaultCase{"nonsense\r\n\r\n", 400},                                            // no version
                    FaultCase{"GET / HTTP/1.1 \r\n\r\n", 400},                                     // no version at the end
                    FaultCase{"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},                          // two spaces
                    FaultCase{"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},                           // not a token
                    FaultCase{"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400},                           // no slash
                    FaultCase{"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400},                       // control character
                    FaultCase{"GET / http/1.1\r\nHost: a\r\n\r\n", 400},                           // lower case
                    FaultCase{"GET / HTTP/2.0\r\n\r\n", 505},                                      //
                    FaultCase{"GET / HTTP/1.1\r\n\r\n", 400},                                      // no Host
                    FaultCase{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},                // two
                    FaultCase{"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},                          // space before the colon
                    FaultCase{"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400},                //
                    FaultCase{"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400},                        // bare CR
                    FaultCase{"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400},               //
                    FaultCase{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},    //
                    FaultCase{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400},  //
                    FaultCase{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
                    FaultCase{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n", 413},
                    FaultCase{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413},
                    FaultCase{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 501}));

TEST(HttpRequest, body_length_is_told) {
  EXPECT_EQ(parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 42\r\n\r\n").request.body_bytes, 42U);
}

TEST(HttpRequest, a_long_target_is_414_once_the_limit_is_reached) {
  const std::string target(kHeadBytesMax, 'a');
  EXPECT_EQ(status_of("GET /" + target), 414);
  EXPECT_EQ(parse("GET /" + target.substr(0, 100)).state, State::incomplete);
}

TEST(HttpRequest, long_headers_are_431_whether_or_not_they_have_ended) {
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(kHeadBytesMax, 'a');
  EXPECT_EQ(status_of(head), 431);
  EXPECT_EQ(status_of(head + "\r\n\r\n"), 431);
}

TEST(HttpRequest, the_longest_head_is_accepted) {
  std::string head = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
  head += std::string(kHeadBytesMax - head.size() - 4, 'a') + "\r\n\r\n";
  ASSERT_EQ(head.size(), kHeadBytesMax);
  EXPECT_EQ(parse(head).state, State::complete);
  EXPECT_EQ(parse(std::string_view(head).substr(0, head.size() - 1)).state, State::incomplete);
}

TEST(HttpRequest, many_headers_are_431) {
  std::string head = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (std::size_t count = 1; count < kHeadersMax; ++count) head += "A: b\r\n";
  EXPECT_EQ(parse(head + "\r\n").state, State::complete);
  EXPECT_EQ(status_of(head + "A: b\r\n\r\n"), 431);
}

}  // namespace
}  // namespace example
