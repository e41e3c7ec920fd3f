// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <lb/endpoint.hh>
#include <string>

namespace lb {
namespace {

struct Good {
  const char* text;
  int family;
  in_port_t port;
  const char* printed;
};

class GoodEndpoint : public testing::TestWithParam<Good> {};
INSTANTIATE_TEST_SUITE_P(
    each, GoodEndpoint,
    testing::Values(Good{"tcp://127.0.0.1:8080", AF_INET, 8080, "tcp://127.0.0.1:8080"},
                    Good{"tcp://0.0.0.0:80", AF_INET, 80, "tcp://0.0.0.0:80"},
                    Good{"tcp://*:80", AF_INET, 80, "tcp://0.0.0.0:80"},
                    Good{"tcp://127.0.0.1:0", AF_INET, 0, "tcp://127.0.0.1:0"},
                    Good{"tcp://255.255.255.255:65535", AF_INET, 65535, "tcp://255.255.255.255:65535"},
                    Good{"tcp://[::1]:8080", AF_INET6, 8080, "tcp://[::1]:8080"},
                    Good{"tcp://[::]:1", AF_INET6, 1, "tcp://[::]:1"},
                    Good{"tcp://[0:0:0::0:1]:80", AF_INET6, 80, "tcp://[::1]:80"},
                    Good{"tcp://[2001:DB8::a]:443", AF_INET6, 443, "tcp://[2001:db8::a]:443"},
                    Good{"tcp://[::ffff:192.0.2.1]:443", AF_INET6, 443, "tcp://[::ffff:192.0.2.1]:443"}));

TEST_P(GoodEndpoint, is_read_and_printed_so_that_it_is_read_back) {
  const auto& good = GetParam();
  const auto endpoint = Endpoint::parse(good.text);
  ASSERT_TRUE(endpoint) << endpoint.error().message();
  EXPECT_EQ(endpoint->family(), good.family);
  EXPECT_EQ(endpoint->port(), good.port);
  EXPECT_EQ(endpoint->address()->sa_family, good.family);
  EXPECT_EQ(endpoint->length(), good.family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
  EXPECT_EQ(endpoint->to_string(), good.printed);
  EXPECT_EQ(Endpoint::parse(endpoint->to_string()).value(), *endpoint);
  EXPECT_EQ(Endpoint::from_sockaddr(endpoint->address(), endpoint->length()).value(), *endpoint);
}

class BadEndpoint : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(
    each, BadEndpoint,
    testing::Values("", "tcp", "tcp:", "tcp://", "tcp://:", "127.0.0.1:80", "http://127.0.0.1:80", "udp://127.0.0.1:80",
                    "tcp:/127.0.0.1:80", " tcp://127.0.0.1:80", "tcp://127.0.0.1:80 ", "tcp://127.0.0.1",
                    "tcp://127.0.0.1:", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:99999999999999999999",
                    "tcp://127.0.0.1:-1", "tcp://127.0.0.1:+1", "tcp://127.0.0.1: 80", "tcp://127.0.0.1:80x",
                    "tcp://127.0.0.1:0x50", "tcp://127.0.0.1:80:90", "tcp://127.0.0.1:80/", "tcp://127.0.0:80",
                    "tcp://256.0.0.1:80", "tcp://127.0.0.1.5:80", "tcp://localhost:80", "tcp://example.com:80",
                    "tcp://::1:80", "tcp://[::1]", "tcp://[::1]80", "tcp://[::1]:", "tcp://[::1:80", "tcp://::1]:80",
                    "tcp://[]:80", "tcp://[:::]:80", "tcp://[127.0.0.1]:80", "tcp://[*]:80", "tcp://[12345::]:80"));

TEST_P(BadEndpoint, is_einval_with_an_explanation) {
  const auto endpoint = Endpoint::parse(GetParam());
  ASSERT_FALSE(endpoint) << "read as " << endpoint->to_string();
  EXPECT_EQ(endpoint.error().code, EINVAL);
  EXPECT_GT(std::strlen(endpoint.error().op), 5u) << "says what is wrong";
}

TEST(Endpoint, long_input_is_einval) {
  EXPECT_EQ(Endpoint::parse("tcp://" + std::string(100'000, '1') + ":80").error().code, EINVAL);
  EXPECT_EQ(Endpoint::parse("tcp://[" + std::string(100'000, ':') + "]:80").error().code, EINVAL);
}

TEST(Endpoint, zero_bytes_are_einval) {
  EXPECT_EQ(Endpoint::parse(std::string_view("tcp://127.0.0.1\0:80", 19)).error().code, EINVAL);
  EXPECT_EQ(Endpoint::parse(std::string_view("tcp://127.0.0.1:80\0", 19)).error().code, EINVAL);
}

TEST(Endpoint, text_need_not_end_with_a_zero) {
  const std::string_view text("tcp://127.0.0.1:8080");
  EXPECT_EQ(Endpoint::parse(text.substr(0, text.size() - 2))->port(), 80);
}

TEST(Endpoint, compares_family_address_and_port) {
  const auto base = Endpoint::parse("tcp://127.0.0.1:80").value();
  EXPECT_EQ(base, Endpoint::parse("tcp://127.0.0.1:80").value());
  EXPECT_FALSE(base == Endpoint::parse("tcp://127.0.0.1:81").value());
  EXPECT_FALSE(base == Endpoint::parse("tcp://127.0.0.2:80").value());
  EXPECT_FALSE(base == Endpoint::parse("tcp://[::ffff:127.0.0.1]:80").value());
  EXPECT_FALSE(base == Endpoint());
  EXPECT_EQ(Endpoint(), Endpoint());
}

TEST(Endpoint, what_the_kernel_leaves_in_the_padding_does_not_count) {
  auto one = Endpoint::parse("tcp://127.0.0.1:80").value();
  sockaddr_in dirty{};
  std::memcpy(&dirty, one.address(), sizeof dirty);
  std::memset(dirty.sin_zero, 0xff, sizeof dirty.sin_zero);
  EXPECT_EQ(one, Endpoint::from_sockaddr(reinterpret_cast<sockaddr*>(&dirty), sizeof dirty).value());
}

TEST(Endpoint, other_families_are_eafnosupport) {
  sockaddr_un path{.sun_family = AF_UNIX, .sun_path = "/x"};
  EXPECT_EQ(Endpoint::from_sockaddr(reinterpret_cast<sockaddr*>(&path), sizeof path).error().code, EAFNOSUPPORT);
}

TEST(Endpoint, truncated_address_is_an_error) {
  const auto v4 = Endpoint::parse("tcp://127.0.0.1:80").value();
  const auto v6 = Endpoint::parse("tcp://[::1]:80").value();
  EXPECT_FALSE(Endpoint::from_sockaddr(v4.address(), sizeof(sockaddr_in) - 1));
  EXPECT_FALSE(Endpoint::from_sockaddr(v6.address(), sizeof(sockaddr_in)));
  EXPECT_FALSE(Endpoint::from_sockaddr(v6.address(), 0));
}

}  // namespace
}  // namespace lb
