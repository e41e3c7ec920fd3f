// SPDX-License-Identifier: MIT
#include "sys/notify.hh"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <string>

#include <lb/unique_fd.hh>

namespace lb {
namespace {

/// A service manager, at an abstract name or a path.
class Notify : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    const std::string name = "/tmp/lb-notify-test-" + std::to_string(::getpid());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path + (GetParam() ? 1 : 0), name.size());
    if (!GetParam()) path_ = name;
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + (GetParam() ? 1 : 0) + name.size());
    ASSERT_EQ(::bind(manager_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    ASSERT_EQ(::connect(other_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    ::setenv("NOTIFY_SOCKET", (GetParam() ? "@" + name : name).c_str(), 1);
  }
  void TearDown() override {
    ::unsetenv("NOTIFY_SOCKET");
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  std::string hear() {
    std::array<char, 64> text{};
    const ssize_t size = ::recv(manager_.get(), text.data(), text.size(), MSG_DONTWAIT);
    return size < 0 ? "" : std::string(text.data(), static_cast<size_t>(size));
  }

  UniqueFd manager_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  UniqueFd other_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  std::string path_;
};
INSTANTIATE_TEST_SUITE_P(name, Notify, testing::Bool(), [](const auto& abstract) { return abstract.param ? "abstract" : "path"; });

TEST_P(Notify, is_heard_by_the_service_manager_and_nobody_without_one) {
  notify_service("MAINPID=4711");
  EXPECT_EQ(hear(), "MAINPID=4711");
  ::unsetenv("NOTIFY_SOCKET");
  notify_service("MAINPID=4712");
  EXPECT_EQ(hear(), "");
}

TEST_P(Notify, manager_that_never_reads_is_not_waited_for_without_end) {
  while (::send(other_.get(), "x", 1, MSG_DONTWAIT) == 1) {
  }
  notify_service("MAINPID=4711");
  std::string last;
  for (std::string heard = hear(); !heard.empty(); heard = hear()) last = heard;
  EXPECT_EQ(last, "x");
}

}  // namespace
}  // namespace lb
