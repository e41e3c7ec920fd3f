// SPDX-License-Identifier: MIT
// Handshakes that nobody finishes: they count as load while they may yet become connections, and not for ever. Under SYN cookies
// they leave no trace, and the program runs twice for those that do finish.
#include <linux/capability.h>
#include <linux/filter.h>
#include <sys/socket.h>

#include <fstream>
#include <sstream>

#include "contract.hh"
#include "isolation.hh"
#include "own_network.hh"
#include "privileges.hh"

namespace lb::test {
namespace {

constexpr unsigned kFlood = 400;
constexpr unsigned kLoad = 200;
constexpr double kFairMax = 1.5;  // 200 fair draws over 4 workers

/// Clients that send a SYN and are deaf to the answer. Made first: where capabilities are dropped, filters may not be attached.
class Flood {
 public:
  explicit Flood(unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
      const sock_fprog filter{1, &drop};
      EXPECT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter), 0) << std::strerror(errno);
      deaf_.push_back(std::move(fd));
    }
  }

  void send(const Endpoint& to) const {
    for (const UniqueFd& fd : deaf_) EXPECT_TRUE(::connect(fd.get(), to.address(), to.length()) < 0 && errno == EINPROGRESS);
  }

 private:
  std::vector<UniqueFd> deaf_;
};

/// Handshakes under way in this network namespace (proc(5), net/tcp: state 03 is TCP_SYN_RECV).
unsigned count_half_open() {
  std::ifstream table("/proc/self/net/tcp");
  unsigned count = 0;
  std::string number, local, remote, state;
  for (std::string line; std::getline(table, line);) {
    std::istringstream(line) >> number >> local >> remote >> state;
    if (state == "03") ++count;
  }
  return count;
}

struct Ground {
  const char* rung;
  bool cookies;
};

/// Each test in a network of its own, on a rung of its own.
class SynFlood : public testing::TestWithParam<Ground> {
 protected:
  static void in_own_network(const std::function<void(TestCluster&, const Flood&)>& body) {
    in_child([&] {
      const Ground& ground = GetParam();
      LB_SKIP_WITHOUT_BPF(!enter_own_network(), "a network namespace needs CAP_SYS_ADMIN");
      ASSERT_TRUE(set_ipv4("tcp_syncookies", ground.cookies ? "2" : "0"));
      const Flood flood(kFlood);
      if (std::string(ground.rung) == "eBPF, in flight") {
        ASSERT_TRUE(keep_capabilities({CAP_BPF}));
      }
      TestCluster cluster("reuseport");
      ASSERT_TRUE(cluster.start(2, Style::watch));
      ASSERT_EQ(cluster.endpoint().rung, ground.rung) << cluster.describe();
      body(cluster, flood);
      cluster.expect_clean_shutdown();
    });
  }

  /// How evenly the next connections, one at a time, spread over workers 1 to 4: the busiest over the mean; 0 if one got none.
  static double unevenness(TestCluster& cluster) {
    const Load load({.to = cluster.address(), .count = kLoad, .at_once = 1});
    EXPECT_TRUE(cluster.wait_over(load));
    EXPECT_EQ(load.answered(), kLoad) << load.describe();
    return max_over_mean(load.per_worker(), 1, 4);
  }

  static bool fair(double unevenness) { return unevenness >= 1 && unevenness <= kFairMax; }
};
std::string ground_name(const testing::TestParamInfo<Ground>& ground) {
  return test_name(std::string(ground.param.rung) + (ground.param.cookies ? " cookies" : ""));
}
INSTANTIATE_TEST_SUITE_P(on, SynFlood,
                         testing::Values(Ground{"eBPF, kernel backlog", false}, Ground{"eBPF, in flight", false},
                                         Ground{"eBPF, kernel backlog", true}, Ground{"eBPF, in flight", true}),
                         ground_name);

TEST_P(SynFlood, selection_is_fair_again_while_the_flood_is_still_half_open) {
  in_own_network([](TestCluster& cluster, const Flood& flood) {
    flood.send(cluster.address());  // all of it to workers 1 and 2
    ASSERT_TRUE(cluster.start(2, Style::watch));
    bool is_fair = false;
    while (!is_fair && !HasFailure()) {
      is_fair = fair(unevenness(cluster));
      if (GetParam().cookies) continue;
      ASSERT_GE(count_half_open(), kFlood / 2) << "the kernel has given the flood up";
    }
  });
}

TEST_P(SynFlood, connections_that_come_one_at_a_time_spread_evenly_without_one) {
  in_own_network([](TestCluster& cluster, const Flood&) {
    ASSERT_TRUE(cluster.start(2, Style::watch));
    EXPECT_TRUE(fair(unevenness(cluster)));
  });
}

}  // namespace
}  // namespace lb::test
