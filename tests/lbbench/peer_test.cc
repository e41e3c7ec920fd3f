// SPDX-License-Identifier: MIT
#include "peer.hh"

#include <gtest/gtest.h>

namespace lbbench {
namespace {

TEST(Peers, each_has_a_name_of_its_own_a_sentence_and_a_configuration_that_is_compiled_in) {
  for (const auto& peer : peers()) {
    EXPECT_EQ(find_peer(peer.name), &peer);
    EXPECT_LE(peer.sentence.size(), 80U) << peer.name;
    EXPECT_FALSE(peer_file(peer.configuration).empty()) << peer.configuration;
  }
  EXPECT_EQ(find_peer("apache"), nullptr);
  EXPECT_TRUE(peer_file("apache.conf").empty());
}

TEST(Peers, nothing_is_left_to_fill_in) {
  for (const auto& peer : peers()) {
    const Placeholders values{.workers = 3, .port = 12'345, .directory = "/tmp/x", .listen = peer.listen};
    const std::string text = fill_in(std::string(peer_file(peer.configuration)), values);
    const size_t mark = text.find("@WORDS@");
    EXPECT_EQ(text.find('@', mark == std::string::npos ? 0 : mark + 7), std::string::npos) << text;
    std::string command;
    for (const auto& argument : peer.arguments) command += fill_in(argument, values) + ' ';
    EXPECT_EQ(command.find('@'), std::string::npos) << command;
    EXPECT_NE((text + command).find("12345"), std::string::npos) << peer.name;
  }
}

TEST(Peers, nginx_has_a_socket_for_each_worker_only_as_nginx) {
  const auto text_of = [](const char* name) {
    const Peer& peer = *find_peer(name);
    return fill_in(std::string(peer_file(peer.configuration)), {2, 80, "/tmp/x", peer.listen});
  };
  EXPECT_NE(text_of("nginx").find("listen 127.0.0.1:80 reuseport;"), std::string::npos);
  EXPECT_NE(text_of("nginx-shared").find("listen 127.0.0.1:80;"), std::string::npos);
}

TEST(Peers, versions_are_short) {
  EXPECT_EQ(version_from("nginx version: nginx/1.22.1\n"), "nginx/1.22.1");
  EXPECT_EQ(version_from("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: long-term\n"),
            "HAProxy 2.6.12-1+deb12u4");
  EXPECT_EQ(version_from("v20.20.2\n"), "Node.js 20.20.2");
  EXPECT_EQ(version_from("something else"), "something else");
}

TEST(Peers, node_reuseport_needs_a_version_that_has_it) {
  for (const char* version : {"Node.js 18.20.4", "Node.js 20.20.2", "Node.js 22.11.0", "Node.js 23.0.0"})
    EXPECT_NE(no_reuse_port(version), "") << version;
  for (const char* version : {"Node.js 22.12.0", "Node.js 23.1.0", "Node.js 24.0.0"})
    EXPECT_EQ(no_reuse_port(version), "") << version;
}

}  // namespace
}  // namespace lbbench
