// SPDX-License-Identifier: MIT
// What a process of the same user can do to a reuseport group from outside: join it, replace or detach its program.
#include <linux/filter.h>
#include <sys/socket.h>

#include "contract.hh"
#include "privileges.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

/// Listens on the endpoint's very port, as any process of the same user may.
UniqueFd join(const Endpoint& address) {
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  EXPECT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), 0);
  EXPECT_EQ(::bind(fd.get(), address.address(), address.length()), 0);
  EXPECT_EQ(::listen(fd.get(), 511), 0);
  return fd;
}

bool has_connection(const UniqueFd& listener) {
  return UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)).get() >= 0;
}

/// All to the last that joined.
void replace_program(const UniqueFd& member, uint32_t place) {
  sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, place)};
  const sock_fprog program{1, code};
  EXPECT_EQ(::setsockopt(member.get(), SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program), 0);
}

void detach_program(const UniqueFd& member) {
  const int unused = 0;
  EXPECT_EQ(::setsockopt(member.get(), SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &unused, sizeof unused), 0);
}

class Strangers : public testing::Test {
 protected:
  void start(unsigned workers = 3) {
    ASSERT_TRUE(cluster.start(workers, Style::watch));
    LB_SKIP_WITHOUT_BPF(cluster.endpoint().rung.rfind("eBPF", 0) != 0, "eBPF: " + cluster.endpoint().reason);
  }
  TestCluster cluster{"reuseport"};
};

TEST_F(Strangers, who_joins_the_group_is_reported_and_gets_no_connection_while_the_program_selects) {
  start();
  if (HasFailure() || IsSkipped()) return;
  EXPECT_EQ(cluster.endpoint().strangers, 0u);
  UniqueFd stranger = join(cluster.address());
  ASSERT_TRUE(cluster.wait_until("the report", [&] { return cluster.count(Event::Kind::stranger) == 1; }));
  EXPECT_EQ(cluster.endpoint().strangers, 1u);
  EXPECT_NE(cluster->status().to_string().find("strangers 1"), std::string::npos) << cluster.describe();
  const Load load({.to = cluster.address(), .count = 1000, .at_once = 16});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 1000u) << load.describe();
  EXPECT_FALSE(has_connection(stranger));
  stranger.reset();
  EXPECT_TRUE(cluster.wait_until("the status to say that it left", [&] { return cluster.endpoint().strangers == 0; }));
  EXPECT_EQ(cluster.endpoint().reattached, 0u);
  cluster.expect_clean_shutdown();
}

TEST_F(Strangers, program_that_is_detached_under_load_is_attached_again_and_reported) {
  start();
  if (HasFailure() || IsSkipped()) return;
  const Load load({.to = cluster.address(), .count = 16000, .at_once = 8});
  ASSERT_TRUE(cluster.wait_until(
      "the load", [&] { return load.answered() > 100; }, nullptr, &load));
  const auto own = listening_at(cluster.address());
  ASSERT_FALSE(own.empty());
  detach_program(UniqueFd(::dup(own.back())));
  ASSERT_TRUE(cluster.wait_until(
      "the report", [&] { return cluster.count(Event::Kind::program_restored) == 1; }, nullptr, &load));
  EXPECT_EQ(cluster.endpoint().reattached, 1u);
  const auto& workers = cluster.endpoint().workers;
  uint64_t before = 0;
  for (const auto& worker : workers) before += worker.picks;
  load.stop();
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), load.started()) << load.describe();
  Crowd crowd;
  crowd.connect(cluster.address(), 30);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  uint64_t after = 0;
  for (const auto& worker : cluster.endpoint().workers) after += worker.picks;
  EXPECT_GE(after, before + 30);
  EXPECT_EQ(cluster.endpoint().reattached, 1u);
  cluster.expect_clean_shutdown();
}

TEST_F(Strangers, program_that_a_stranger_replaces_with_one_of_its_own_is_attached_again) {
  start();
  if (HasFailure() || IsSkipped()) return;
  const UniqueFd stranger = join(cluster.address());
  const Load load({.to = cluster.address(), .count = 16000, .at_once = 8});
  ASSERT_TRUE(cluster.wait_until(
      "the load", [&] { return load.answered() > 100; }, nullptr, &load));
  replace_program(stranger, 0);  // all to the first slot
  ASSERT_TRUE(cluster.wait_until(
      "the report", [&] { return cluster.count(Event::Kind::program_restored) == 1; }, nullptr, &load));
  load.stop();
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), load.started()) << load.describe();
  EXPECT_FALSE(has_connection(stranger));
  cluster.expect_clean_shutdown();
}

/// What it takes is lost to us; but it is known that somebody takes.
TEST(StrangersBelow, who_joins_where_no_program_selects_is_reported) {
  TestCluster cluster("reuseport:hash");
  ASSERT_TRUE(cluster.start(2, Style::watch));
  const UniqueFd stranger = join(cluster.address());
  ASSERT_TRUE(cluster.wait_until("the report", [&] { return cluster.count(Event::Kind::stranger) == 1; }));
  const Seen* seen = cluster.event(Event::Kind::stranger, 0);
  ASSERT_NE(seen, nullptr);
  EXPECT_EQ(seen->at->address.to_string(), cluster.address().to_string());
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
