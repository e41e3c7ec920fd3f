// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <lb/endpoint.hh>
#include <string>

namespace lb {
namespace {

struct EndpointText {
  const char* text;
  int family;
  in_port_t port;
  const char* printed;
};

class GoodEndpoint : public testing::TestWithParam<EndpointText> {};
INSTANTIATE_TEST_SUITE_P(each, GoodEndpoint,
                         testing::Values(EndpointText{"tcp://127.0.0.1:8080", AF_INET, 8080, "tcp://127.0.0.1:8080"},
                                         EndpointText{"tcp://0.0.0.0:80", AF_INET, 80, "tcp://0.0.0.0:80"},
                                         EndpointText{"tcp://*:80", AF_INET, 80, "tcp://0.0.0.0:80"},
                                         EndpointText{"tcp://127.0.0.1:0", AF_INET, 0, "tcp://127.0.0.1:0"},
                                         EndpointText{"tcp://255.255.255.255:65535", AF_INET, 65535, "tcp://255.255.255.255:65535"},
                                         EndpointText{"tcp://[::1]:8080", AF_INET6, 8080, "tcp://[::1]:8080"},
                                         EndpointText{"tcp://[::]:1", AF_INET6, 1, "tcp://[::]:1"},
                                         EndpointText{"tcp://[0:0:0::0:1]:80", AF_INET6, 80, "tcp://[::1]:80"},
                                         EndpointText{"tcp://[2001:DB8::a]:443", AF_INET6, 443, "tcp://[2001:db8::a]:443"},
                                         EndpointText{"tcp://[::ffff:192.0.2.1]:443", AF_INET6, 443,
                                                      "tcp://[::ffff:192.0.2.1]:443"}));

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
INSTANTIATE_TEST_SUITE_P(each, BadEndpoint,
                         testing::Values("", "tcp", "tcp:", "tcp://", "tcp://:", "127.0.0.1:80", "http://127.0.0.1:80",
                                         "udp://127.0.0.1", "udp://", "unix:", "unix:@", "unix:relative", "unix:./x", "unix",
                                         "fd:", "fd:-1", "fd:3x", "fd:a b", "fd:a:b", "fd:99999999999", "tcp:/127.0.0.1:80",
                                         " tcp://127.0.0.1:80", "tcp://127.0.0.1:80 ", "tcp://127.0.0.1",
                                         "tcp://127.0.0.1:", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:99999999999999999999",
                                         "tcp://127.0.0.1:-1", "tcp://127.0.0.1:+1", "tcp://127.0.0.1: 80", "tcp://127.0.0.1:80x",
                                         "tcp://127.0.0.1:0x50", "tcp://127.0.0.1:80:90", "tcp://127.0.0.1:80/", "tcp://127.0.0:80",
                                         "tcp://256.0.0.1:80", "tcp://127.0.0.1.5:80", "tcp://localhost:80", "tcp://example.com:80",
                                         "tcp://::1:80", "tcp://[::1]", "tcp://[::1]80", "tcp://[::1]:", "tcp://[::1:80",
                                         "tcp://::1]:80", "tcp://[]:80", "tcp://[:::]:80", "tcp://[127.0.0.1]:80", "tcp://[*]:80",
                                         "tcp://[12345::]:80"));

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

struct Named {
  const char* text;
  Endpoint::Kind kind;
  const char* printed;
};

class NamedEndpoint : public testing::TestWithParam<Named> {};
INSTANTIATE_TEST_SUITE_P(each, NamedEndpoint,
                         testing::Values(Named{"udp://127.0.0.1:53", Endpoint::Kind::udp, "udp://127.0.0.1:53"},
                                         Named{"udp://[::1]:53", Endpoint::Kind::udp, "udp://[::1]:53"},
                                         Named{"unix:/run/x.sock", Endpoint::Kind::unix_socket, "unix:/run/x.sock"},
                                         Named{"unix:@name", Endpoint::Kind::unix_socket, "unix:@name"},
                                         Named{"fd:3", Endpoint::Kind::inherited, "fd:3"},
                                         Named{"fd:03", Endpoint::Kind::inherited, "fd:3"},
                                         Named{"fd:http.socket", Endpoint::Kind::inherited, "fd:http.socket"}));

TEST_P(NamedEndpoint, is_read_and_printed_so_that_it_is_read_back) {
  const auto endpoint = Endpoint::parse(GetParam().text);
  ASSERT_TRUE(endpoint) << endpoint.error().message();
  EXPECT_EQ(endpoint->kind(), GetParam().kind);
  EXPECT_EQ(endpoint->to_string(), GetParam().printed);
  EXPECT_EQ(Endpoint::parse(endpoint->to_string()).value(), *endpoint);
}

TEST(Endpoint, kinds_differ_though_the_address_is_one) {
  EXPECT_FALSE(Endpoint::parse("tcp://127.0.0.1:53").value() == Endpoint::parse("udp://127.0.0.1:53").value());
  EXPECT_FALSE(Endpoint::parse("unix:/x").value() == Endpoint::parse("unix:@x").value());
}

TEST(Endpoint, unix_path_may_have_107_bytes_and_no_more) {
  const std::string path = "/" + std::string(106, 'p');
  EXPECT_EQ(Endpoint::parse("unix:" + path)->name(), path);
  const auto longer = Endpoint::parse("unix:" + path + "p");
  EXPECT_EQ(longer.error().code, EINVAL);
  EXPECT_NE(std::strstr(longer.error().op, "107"), nullptr) << longer.error().op;
}

TEST(Endpoint, unix_addresses_are_read_back_from_the_kernels_form) {
  for (const char* text : {"unix:/run/x.sock", "unix:@name"}) {
    const auto endpoint = Endpoint::parse(text).value();
    EXPECT_EQ(Endpoint::from_sockaddr(endpoint.address(), endpoint.length()).value(), endpoint) << text;
  }
  sockaddr_un unnamed{.sun_family = AF_UNIX, .sun_path = {}};
  EXPECT_EQ(Endpoint::from_sockaddr(reinterpret_cast<sockaddr*>(&unnamed), sizeof unnamed.sun_family)->to_string(), "unix:");
}

TEST(Endpoint, other_families_are_eafnosupport) {
  sockaddr_storage other{};
  other.ss_family = AF_PACKET;
  EXPECT_EQ(Endpoint::from_sockaddr(reinterpret_cast<sockaddr*>(&other), sizeof other).error().code, EAFNOSUPPORT);
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
