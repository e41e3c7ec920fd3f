// SPDX-License-Identifier: MIT
// Which listeners are one endpoint (the key rule), and what a worker hears that asks for what cannot be.
#include <cerrno>
#include <cstring>

#include "contract.hh"
#include "refusal.hh"
#include "sockets.hh"

namespace lb::test {
namespace {

class Sharing : public PolicyTest {};
LB_FOR_EVERY_POLICY(Sharing);

TEST_P(Sharing, N9_same_address_however_it_is_written_is_one_endpoint) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, Style::blocking, "tcp://*:0"));
  const auto port = std::to_string(cluster.address().port());
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, board, "tcp://0.0.0.0:0")));
  EXPECT_EQ(cluster->status().endpoints.size(), 1u);
  EXPECT_EQ(cluster.address().to_string(), "tcp://0.0.0.0:" + port);
  EXPECT_EQ(cluster.endpoint().workers.size(), 2u);
  cluster.expect_clean_shutdown();
}

TEST_P(Sharing, N9_other_address_kind_or_v6only_is_another_endpoint) {
  const Folder folder;
  const auto name = unique_name("lb");
  struct Asked {
    std::string endpoint;
    bool v6only = false;
  };
  const Asked all[] = {{"tcp://127.0.0.1:0"},        {"tcp://127.0.0.2:0"},  {"tcp://[::1]:0"},
                       {"tcp://[::]:0", false},      {"tcp://[::]:0", true}, {"unix:@" + name},
                       {"unix:" + folder.path(name)}};
  TestCluster cluster(policy());
  size_t count = 0;
  for (const auto& asked : all) {
    ASSERT_TRUE(cluster.start(1, answering(Style::blocking, cluster.board(), asked.endpoint, {.v6only = asked.v6only})));
    EXPECT_EQ(cluster->status().endpoints.size(), ++count) << asked.endpoint;
  }
  cluster.expect_clean_shutdown();
}

TEST_P(Sharing, N9_second_listen_of_a_worker_on_a_fixed_port_is_eaddrinuse) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    const auto second = worker.listen(listener.address());  // another key, so another socket, for a port that is taken
    if (second.error().code != EADDRINUSE) return board.fail("got: " + second.error().message());
    ++board.flag[0];
    return answer_all(worker, listener, Style::blocking, board);
  }));
  ASSERT_TRUE(cluster.wait_until("both to be told", [&] { return board.flag[0] == 2; }));
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Sharing, N9_both_v6onlys_on_one_port_are_eaddrinuse_for_the_second) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking, "tcp://[::]:0"));
  const auto address = cluster.address().to_string();
  const auto said = ask_for(cluster, address, {.v6only = true}).message;
  expect_contains(said, address);
  expect_contains(said, std::strerror(EADDRINUSE));
  cluster.expect_clean_shutdown();
}

TEST_P(Sharing, N9_other_options_for_an_open_endpoint_are_an_error_that_names_the_difference) {
  const Folder folder;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, board, kAnyPort, {.receive_buffer = 8192})));
  expect_contains(ask_for(cluster, kAnyPort, {}).message, "receive_buffer 0 (the endpoint is open with 8192");
  expect_contains(ask_for(cluster, kAnyPort, {.receive_buffer = 8192, .device = "lo"}).message, "device \"lo\"");
  const auto path = "unix:" + folder.path("socket");
  ASSERT_TRUE(cluster.start(1, answering(Style::blocking, board, path, {.permissions = 0600})));
  expect_contains(ask_for(cluster, path, {.permissions = 0660}).message, "permissions");
  EXPECT_EQ(ask_for(cluster, path, {.permissions = 0600}).message, "");
  cluster.expect_clean_shutdown();
}

TEST_P(Sharing, N11_busy_port_is_told_to_every_worker_that_asks_and_all_succeed_once_it_is_free) {
  UniqueFd occupied = make_socket(kAnyPort);
  const Endpoint endpoint = address_of(occupied.get());
  const Gate retry;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(cluster->spawn([&](Worker& worker) {
      occupied.reset();  // the copy that this process inherited
      const auto refused = worker.listen(endpoint);
      if (refused.error().message() != "bind " + endpoint.to_string() + ": " + std::strerror(EADDRINUSE)) {
        board.fail("got: " + refused.error().message());
      }
      ++board.flag[0];
      retry.wait();
      auto listener = worker.listen(endpoint);
      if (!listener) return board.fail(listener.error().message());
      return answer_all(worker, *listener, Style::blocking, board);
    }));
  }
  ASSERT_TRUE(cluster.wait_until("all to be told", [&] { return board.flag[0] == 3; }));
  EXPECT_TRUE(cluster->status().endpoints.empty());
  occupied.reset();
  retry.open(3);
  ASSERT_TRUE(cluster.wait_until("all to listen", [&] { return cluster.count(Event::Kind::listening) == 3; }));
  EXPECT_EQ(cluster.endpoint().workers.size(), 3u);
  Crowd crowd;
  crowd.connect(endpoint, 20);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

TEST_P(Sharing, N15_dual_stack_shows_ipv4_clients_as_mapped_addresses) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen("tcp://[::]:0").value();
    while (auto connection = listener.accept()) {
      std::snprintf(board.text.data(), board.text.size(), "%s", connection->peer().value().to_string().c_str());
      answer_one(worker, *connection, board);
    }
    return 0;
  }));
  Crowd crowd;
  crowd.connect(Endpoint::parse("tcp://127.0.0.1:" + std::to_string(cluster.address().port())).value(), 1);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  EXPECT_EQ(board.text.data(), "tcp://[::ffff:127.0.0.1]:" + std::to_string(crowd[0].address().port()));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
