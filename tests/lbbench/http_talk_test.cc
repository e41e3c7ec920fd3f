// SPDX-License-Identifier: MIT
#include "http_talk.hh"

#include <gtest/gtest.h>

#include <string>

namespace lbbench {
namespace {

using State = HttpAnswer::State;

std::string request(Work work, uint64_t service_ns, bool last) {
  std::array<char, kHttpRequestMax> bytes{};
  return {bytes.data(), write_http_request(bytes, work, service_ns, last)};
}

constexpr std::string_view kAnswer =
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nX-Long: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n"
    "content-length:  6 \r\nX-Worker: 4711\r\n\r\nhello\n";

TEST(HttpRequest, asks_for_the_service_in_whole_microseconds) {
  EXPECT_EQ(request(Work::sleep, 0, false), "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  EXPECT_EQ(request(Work::sleep, 500'999, false), "GET /sleep/500 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  EXPECT_EQ(request(Work::cpu, UINT64_MAX, true),
            "GET /spin/18446744073709551 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
}

TEST(HttpAnswerTest, is_read_whole_however_it_is_cut) {
  for (size_t cut = 0; cut <= kAnswer.size(); ++cut) {
    HttpAnswer answer;
    const State first = answer.take(kAnswer.substr(0, cut));
    EXPECT_EQ(first, cut == kAnswer.size() ? State::complete : State::incomplete) << cut;
    if (first == State::incomplete) {
      EXPECT_EQ(answer.take(kAnswer.substr(cut)), State::complete) << cut;
    }
    EXPECT_EQ(answer.worker(), 4711U);
    EXPECT_EQ(answer.bytes(), kAnswer.size());
  }
}

TEST(HttpAnswerTest, begins_anew_after_a_reset) {
  HttpAnswer answer;
  ASSERT_EQ(answer.take(kAnswer), State::complete);
  answer.reset();
  EXPECT_EQ(answer.take("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), State::complete);
  EXPECT_EQ(answer.worker(), 0U);
}

TEST(HttpAnswerTest, is_broken_when_it_is_not_what_was_asked_for) {
  for (const char* text : {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "SSH-2.0-OpenSSH\r\n",
                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
                           "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"})
    EXPECT_EQ(HttpAnswer().take(text), State::broken) << text;
}

}  // namespace
}  // namespace lbbench
