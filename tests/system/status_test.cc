// SPDX-License-Identifier: MIT
// What the primary can tell about its workers, and the order in which it tells it.
#include <poll.h>
#include <sys/socket.h>

#include <csignal>
#include <numeric>

#include "contract.hh"

namespace lb::test {
namespace {

using Kind = Event::Kind;

class StatusOf : public PolicyTest {};
LB_FOR_EVERY_POLICY(StatusOf);

class StatusOfEveryKind : public KindTest {};
LB_FOR_EVERY_POLICY_AND_KIND(StatusOfEveryKind);

uint32_t in_flight(TestCluster& cluster) {
  const auto workers = cluster->status().workers;
  return std::accumulate(workers.begin(), workers.end(), 0U,
                         [](uint32_t sum, const WorkerStatus& worker) { return sum + worker.in_flight; });
}

/// A worker that looks for a connection counts one more for that moment.
bool settles_at(TestCluster& cluster, uint32_t worker, uint32_t expected) {
  return cluster.wait_until("the connections in flight", [&] { return cluster.worker(worker).in_flight == expected; });
}

TEST_P(StatusOfEveryKind, counts_what_is_in_flight_and_what_was_accepted) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(3, Style::watch));
  Crowd crowd;
  crowd.connect(cluster.address(), 30);
  ASSERT_TRUE(cluster.wait_greeted(crowd));
  const auto held = crowd.per_worker();
  for (uint32_t id = 1; id <= 3; ++id) {
    const auto expected = id < held.size() ? held[id] : 0;
    EXPECT_TRUE(settles_at(cluster, id, expected)) << "worker " << id;
    EXPECT_EQ(cluster.worker(id).accepted, expected) << "worker " << id;
  }
  const auto endpoint = cluster.endpoint();
  ASSERT_EQ(endpoint.workers.size(), 3u);
  for (const auto& load : endpoint.workers) {
    EXPECT_EQ(load.accepted, load.worker < held.size() ? held[load.worker] : 0) << "worker " << load.worker;
  }
  EXPECT_TRUE(cluster.wait_until("no backlog", [&] {
    for (const auto& load : cluster.endpoint().workers) {
      if (load.backlog != 0) return false;
    }
    return true;
  }));
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_finished(crowd));
  EXPECT_TRUE(cluster.wait_until("nothing to be in flight", [&] { return in_flight(cluster) == 0; }));
  EXPECT_EQ(cluster.endpoint().lost, 0u);
  cluster.expect_clean_shutdown();
}

TEST_P(StatusOf, picks_are_counted_where_somebody_picks) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(3, Style::blocking));
  const Load load({.to = cluster.address(), .count = 90, .at_once = 1});
  ASSERT_TRUE(cluster.wait_over(load));
  const auto endpoint = cluster.endpoint();
  uint64_t picks = 0;
  for (const auto& worker : endpoint.workers) picks += worker.picks;
  const bool program = endpoint.rung.rfind("eBPF", 0) == 0;
  uint64_t by_outcome = 0;
  for (const auto& outcome : endpoint.outcomes) by_outcome += outcome.name == "stray" ? 0 : outcome.count;
  EXPECT_EQ(by_outcome, program ? picks : 0);
  if (program || endpoint.effective.backend == Backend::round_robin) {
    EXPECT_GE(picks, 90u);
    EXPECT_LE(picks, 91u);  // a SYN that is sent again is picked again
  } else if (endpoint.effective.backend == Backend::shared) {
    EXPECT_EQ(picks, 0u);
  }
  cluster.expect_clean_shutdown();
}

TEST_P(StatusOf, says_what_was_asked_for_and_what_is_in_force) {
  TestCluster cluster(policy());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  const auto endpoint = cluster.endpoint();
  const auto asked = Policy::parse(policy()).value();
  EXPECT_EQ(endpoint.requested.to_string(), asked.to_string());
  EXPECT_EQ(endpoint.effective.backend, asked.backend);
  EXPECT_FALSE(endpoint.rung.empty());
  EXPECT_EQ(endpoint.asked.to_string(), kAnyPort);
  const auto text = cluster->status().to_string();
  EXPECT_NE(text.find(endpoint.effective.to_string()), std::string::npos) << text;
  EXPECT_NE(text.find(endpoint.address.to_string()), std::string::npos) << text;
  EXPECT_NE(text.find(endpoint.rung), std::string::npos) << text;
  cluster.expect_clean_shutdown();
}

TEST_P(StatusOfEveryKind, N6_lists_workers_with_their_state_from_listening_to_gone) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(2, Style::blocking));
  const auto workers = cluster->workers();
  ASSERT_EQ(workers.size(), 2u);
  EXPECT_EQ(workers[0].id, 1u);
  EXPECT_EQ(workers[1].id, 2u);
  EXPECT_EQ(workers[0].pid == workers[1].pid, kind() == WorkerKind::thread) << "threads are where the primary is";
  EXPECT_NE(workers[0].slot, workers[1].slot);
  for (const auto& worker : workers) {
    EXPECT_EQ(worker.state, WorkerState::listening);
    EXPECT_EQ(worker.kind, kind());
    EXPECT_TRUE(worker.connected);
    EXPECT_FALSE(worker.exited_after_disconnect);
  }
  Crowd crowd;
  ASSERT_TRUE(cluster.occupy(crowd, 2));
  EXPECT_EQ(crowd.of_worker(1)->worker_pid(), workers[0].pid);
  ASSERT_TRUE(cluster->drain(1));
  ASSERT_TRUE(cluster.wait_until("draining", [&] { return cluster.count(Event::Kind::draining) == 1; }));
  EXPECT_EQ(cluster.worker(1).state, WorkerState::draining);
  EXPECT_TRUE(cluster.worker(1).exited_after_disconnect);
  crowd.ask_all();
  ASSERT_TRUE(cluster.wait_exit(1));
  for (const auto& worker : cluster->status().workers) {
    EXPECT_TRUE(worker.id == 2 || worker.state == WorkerState::gone);
  }
  cluster.expect_clean_shutdown();
}

TEST_P(StatusOfEveryKind, N7_events_come_in_order_for_each_worker) {
  TestCluster cluster(setting());
  ASSERT_TRUE(cluster.start(3, Style::blocking));
  cluster.expect_clean_shutdown();
  for (uint32_t id = 1; id <= 3; ++id) {
    std::vector<Kind> kinds;
    for (const auto& seen : cluster.events()) {
      if (seen.worker == id) kinds.push_back(seen.kind);
    }
    EXPECT_EQ(kinds,
              (std::vector<Kind>{Kind::spawned, Kind::online, Kind::listening, Kind::draining, Kind::disconnected, Kind::exit}))
        << "worker " << id;
    ASSERT_NE(cluster.event(Kind::exit, id), nullptr);
    EXPECT_TRUE(cluster.event(Kind::exit, id)->expected);
    EXPECT_EQ(cluster.event(Kind::exit, id)->pid, cluster.event(Kind::online, id)->pid);
    EXPECT_TRUE(cluster.event(Kind::listening, id)->at.has_value());
  }
}

TEST_P(StatusOf, released_connection_is_charged_until_its_token_goes) {
  const Gate give_back;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    {
      auto released = listener.accept()->release();
      say_hello(worker, released.fd.get());
      released.fd.reset();
      board.flag[0] = 1;
      give_back.wait();
    }
    board.flag[1] = 1;
    return answer_all(worker, listener, Style::blocking, board);
  }));
  Crowd crowd;
  crowd.connect(cluster.address(), 1);
  ASSERT_TRUE(cluster.wait_until(
      "the fd to be closed", [&] { return crowd.all(Client::State::lost); }, &crowd));
  ASSERT_TRUE(cluster.wait_until("the worker", [&] { return board.flag[0] == 1; }));
  EXPECT_EQ(cluster.worker(1).in_flight, 1u);
  give_back.open();
  ASSERT_TRUE(cluster.wait_until("the token to go", [&] { return board.flag[1] == 1; }));
  EXPECT_TRUE(settles_at(cluster, 1, 0));
  cluster.expect_clean_shutdown();
}

TEST_P(StatusOf, adopted_connection_is_charged_until_it_is_closed) {
  const Gate close;
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort).value();
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return board.fail("socketpair");
    const UniqueFd other(pair[1]);
    auto adopted = listener.adopt(UniqueFd(pair[0]));
    board.flag[0] = adopted.fd() == pair[0] ? 1 : 2;
    close.wait();
    adopted.close();
    board.flag[1] = 1;
    return answer_all(worker, listener, Style::blocking, board);
  }));
  ASSERT_TRUE(cluster.wait_until("the adoption", [&] { return board.flag[0] != 0; }));
  EXPECT_EQ(board.flag[0], 1u);
  EXPECT_EQ(cluster.worker(1).in_flight, 1u);
  close.open();
  ASSERT_TRUE(cluster.wait_until("the close", [&] { return board.flag[1] == 1; }));
  EXPECT_TRUE(settles_at(cluster, 1, 0));
  cluster.expect_clean_shutdown();
}

TEST_P(StatusOf, fd_is_readable_whenever_poll_has_something_to_do) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(cluster->spawn(answering(Style::blocking, board)));
  // An event loop that knows nothing but fd(): no timeout ever calls poll.
  const auto drive = [&](const char* what, const auto& so, int also = -1) {
    while (!so()) {
      std::array<pollfd, 2> ready{
          {{.fd = cluster->fd(), .events = POLLIN, .revents = 0}, {.fd = also, .events = POLLIN, .revents = 0}}};
      ASSERT_GE(::poll(ready.data(), ready.size(), 20'000), 1) << "in vain for " << what << "\n" << cluster.describe();
      ASSERT_TRUE(cluster->poll(std::chrono::milliseconds(0)));
    }
  };
  drive("the workers", [&] { return cluster.count(Event::Kind::listening) == 2; });
  const Load load({.to = cluster.address(), .count = 200, .at_once = 8});
  ::kill(cluster.worker(1).pid, SIGKILL);
  drive("the replacement", [&] { return cluster.event(Event::Kind::listening, 3) != nullptr; });
  drive(
      "the load to end", [&] { return load.over(); }, load.pidfd());
  EXPECT_LE(load.lost(), 1u) << load.describe();
  cluster->shutdown();
  drive("the shutdown", [&] { return cluster->done(); });
}

TEST(Status, N6_worker_that_has_closed_its_last_listener_is_online_until_it_listens_again) {
  TestCluster cluster("shared");
  const Gate gate;
  ASSERT_TRUE(cluster.start(
      1,
      [&](Worker& worker) {
        {
          const auto one = worker.listen(kAnyPort);
          {
            const auto another = worker.listen("tcp://127.0.0.2:0");
            gate.wait();
          }
          gate.wait();
        }
        gate.wait();
        return answering(Style::watch, cluster.board())(worker);
      },
      2));
  gate.open();
  ASSERT_TRUE(cluster.wait_until("one to be closed", [&] { return cluster->status().endpoints.size() == 1; }));
  EXPECT_EQ(cluster.worker(1).state, WorkerState::listening);
  gate.open();
  ASSERT_TRUE(cluster.wait_until("the other to be closed", [&] { return cluster->status().endpoints.empty(); }));
  EXPECT_EQ(cluster.worker(1).state, WorkerState::online);
  gate.open();
  ASSERT_TRUE(cluster.wait_until("it to listen again", [&] { return cluster.count(Event::Kind::listening) == 3; }));
  EXPECT_EQ(cluster.worker(1).state, WorkerState::listening);
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
