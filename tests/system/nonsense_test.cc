// SPDX-License-Identifier: MIT
// A worker that writes nonsense into the memory it shares with the primary and the kernel, or rings without end: it harms its own
// connections at most.
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <fstream>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <sstream>
#include <thread>

#include "contract.hh"

namespace lb::test {
namespace {

using Word = std::atomic<uint32_t>;

constexpr size_t kPageWords = 1024;
constexpr size_t kDoorbellWord = 2;  // a descriptor's number, for the worker itself alone: another could be a client's

/// This worker's page of the scoreboard: the one that it may write. Empty if there is none.
std::span<Word> own_page() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    uintptr_t first = 0;
    uintptr_t end = 0;
    char dash = 0;
    std::string rights;
    fields >> std::hex >> first >> dash >> end >> rights;
    const bool board = line.find("lb-workers") != std::string::npos || line.find("bpf-map") != std::string::npos;
    if (board && rights == "rw-s" && end - first == kPageWords * sizeof(Word)) return {reinterpret_cast<Word*>(first), kPageWords};
  }
  return {};
}

/// All fields, again and again: random words, and those that come close to what belongs there.
void write_nonsense(const std::stop_token& over, std::span<Word> page) {
  std::mt19937 random(1);
  while (!over.stop_requested()) {
    for (int i = 0; i < 256; ++i) {
      const size_t index = random() % page.size();
      if (index == kDoorbellWord) continue;
      Word& word = page[index];
      switch (random() % 8) {
        case 0:
          word = 0;
          break;
        case 1:
          word = ~0U;
          break;
        case 2:
          word ^= 1;
          break;
        case 3:
          word ^= 3;
          break;
        case 4:
          word += 4;
          break;
        default:
          word = static_cast<uint32_t>(random());
          break;
      }
    }
    std::this_thread::yield();
  }
}

/// It has one connection, waits for another, and no word for a hand-off is free: in whatever field, this says so.
void write_ones(const std::stop_token& over, std::span<Word> page, std::atomic<uint32_t>& written) {
  while (!over.stop_requested()) {
    for (size_t i = 0; i < page.size(); ++i)
      if (i != kDoorbellWord) page[i] = 1;
    written = 1;
    std::this_thread::yield();
  }
}

void ring_without_end(const std::stop_token& over, std::span<Word> page) {
  const uint64_t one = 1;
  while (!over.stop_requested() && ::write(static_cast<int>(page[kDoorbellWord]), &one, sizeof one) == sizeof one) {
  }
}

/// A worker that answers while a thread of it does that, until it has answered all.
template <class Mischief>
int answer_beside(Mischief mischief, Worker& worker, Board& board) {
  auto listener = worker.listen(kAnyPort);
  if (!listener) return board.fail(listener.error().message());
  const auto page = own_page();
  if (page.empty()) return board.fail("it has no page of its own");
  const std::jthread beside(mischief, page);
  return answer_all(worker, *listener, Style::watch, board);
}

class Nonsense : public PolicyTest {};
LB_FOR_EVERY_POLICY(Nonsense);
INSTANTIATE_TEST_SUITE_P(judges, Nonsense, testing::Values("reuseport:hermes"), policy_test_name);

TEST_P(Nonsense, on_a_workers_page_costs_at_most_connections_that_were_its_own) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(4, [&](Worker& worker) {
    if (worker.id() == 1) return answer_beside(write_nonsense, worker, board);
    return answering(Style::watch, board)(worker);
  }));
  const Load load({.to = cluster.address(), .count = 2000, .at_once = 16});
  ASSERT_TRUE(cluster.wait_over(load));
  const bool handed = Policy::parse(policy())->backend == Backend::round_robin;
  EXPECT_EQ(load.answered() + load.lost(), 2000u) << load.describe();
  EXPECT_LE(load.lost(), handed ? 500u : 0u) << "its share; " << load.describe();
  EXPECT_EQ(board.served_twice(), 0u);
  for (uint32_t id = 2; id <= 4; ++id) EXPECT_GT(load.per_worker()[id], 0u) << shares(load.per_worker());

  // Nothing of it clings to the slot.
  const pid_t pid = cluster.worker(1).pid;
  ASSERT_GT(pid, 0);
  ::kill(pid, SIGKILL);
  ASSERT_TRUE(cluster.wait_until("its replacement", [&] { return cluster.event(Event::Kind::listening, 5) != nullptr; }));
  EXPECT_EQ(cluster.worker(5).slot, 0u);
  unsigned replacements = 0;
  for (int loads = 0; loads < 20 && replacements < 100; ++loads) {
    const Load more({.to = cluster.address(), .count = 500, .at_once = 16});
    ASSERT_TRUE(cluster.wait_over(more));
    EXPECT_EQ(more.answered(), 500u) << more.describe();
    replacements += more.per_worker()[5];
  }
  EXPECT_GE(replacements, 100u);
  cluster.expect_clean_shutdown();
}

TEST_P(Nonsense, of_a_worker_that_drains_holds_no_shutdown_up) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) { return answer_beside(write_nonsense, worker, board); }));
  Crowd crowd;
  crowd.connect(cluster.address(), 10);
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_until(
      "the clients' end", [&] { return crowd.count(Client::State::finished) + crowd.count(Client::State::lost) == crowd.size(); },
      &crowd));
  EXPECT_TRUE(cluster.shut_down());
}

/// The program's own rule knows to whom each connection was handed, again and again if it came back.
TEST(NonsenseHandedOff, costs_no_connection_that_was_never_handed_to_its_worker) {
  constexpr int kRounds = 40;
  constexpr size_t kInRound = 16;
  std::set<in_port_t> handed;
  size_t turn = 0;
  const auto rule = [&](std::span<const Candidate> candidates, const Incoming& incoming) -> std::optional<uint32_t> {
    for (size_t i = 0; i < candidates.size(); ++i) {
      const Candidate& next = candidates[(turn + i) % candidates.size()];
      if (!next.has_room) continue;
      turn = (turn + i + 1) % candidates.size();
      if (const auto peer = incoming.peer(); next.worker == 1 && peer) handed.insert(peer->port());
      return next.worker;
    }
    return std::nullopt;
  };
  TestCluster cluster("round-robin:custom", {.selector = rule});
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(4, [&](Worker& worker) {
    if (worker.id() == 1) return answer_beside(write_nonsense, worker, board);
    return answering(Style::watch, board)(worker);
  }));
  size_t spared = 0;
  for (int round = 0; round < kRounds; ++round) {
    handed.clear();
    Crowd crowd;
    crowd.connect(cluster.address(), kInRound);
    std::vector<in_port_t> ports;
    for (const Client& client : crowd) ports.push_back(client.address().port());
    crowd.ask_all();
    ASSERT_TRUE(cluster.wait_until(
        "the clients' end", [&] { return crowd.count(Client::State::finished) + crowd.count(Client::State::lost) == kInRound; },
        &crowd));
    for (size_t i = 0; i < kInRound; ++i) {
      const bool was_handed = handed.count(ports[i]) != 0;
      spared += was_handed ? 0 : 1;
      EXPECT_TRUE(was_handed || crowd[i].state() == Client::State::finished) << crowd[i].describe();
    }
  }
  EXPECT_GT(spared, kInRound) << "others were given some";
  EXPECT_EQ(cluster.endpoint().bad_picks, 0u);
  EXPECT_TRUE(cluster.shut_down());
}

class NonsenseInEveryTurn : public PolicyTest {};
INSTANTIATE_TEST_SUITE_P(every, NonsenseInEveryTurn, testing::ValuesIn(kRoundRobins), policy_test_name);

TEST_P(NonsenseInEveryTurn, that_says_idle_and_has_no_claim_word_free_leaves_connections_to_the_others) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(4, [&](Worker& worker) {
    if (worker.id() != 1) return answering(Style::watch, board)(worker);
    const auto ones = [&](const std::stop_token& over, std::span<Word> page) { write_ones(over, page, board.flag[0]); };
    return answer_beside(ones, worker, board);
  }));
  ASSERT_TRUE(
      cluster.wait_until("its page to say so", [&] { return board.flag[0] == 1; }));  // what is handed to it before may be lost
  Crowd crowd;
  crowd.connect(cluster.address(), 40);
  EXPECT_TRUE(cluster.wait_greeted(crowd));
  crowd.ask_all();
  EXPECT_TRUE(cluster.wait_finished(crowd));
  EXPECT_EQ(cluster.board().accepted[1], 0u);
  ASSERT_TRUE(cluster->kill(1, SIGKILL));
  ASSERT_TRUE(cluster.wait_exit(1));
  ASSERT_TRUE(cluster.start(1, Style::watch));
  EXPECT_EQ(cluster.worker(5).slot, 0u);
  const Load load({.to = cluster.address(), .count = 500, .at_once = 16});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_GT(load.per_worker()[5], 0u) << "in the slot where no word was free; " << shares(load.per_worker());
  EXPECT_TRUE(cluster.shut_down());
}

TEST_P(Nonsense, of_the_doorbell_without_end_stalls_nobody) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(3, [&](Worker& worker) {
    if (worker.id() == 1) return answer_beside(ring_without_end, worker, board);
    return answering(Style::watch, board)(worker);
  }));
  const Load load({.to = cluster.address(), .count = 1000, .at_once = 16});
  ASSERT_TRUE(cluster.wait_over(load));
  EXPECT_EQ(load.answered(), 1000u) << load.describe();
  EXPECT_EQ(cluster.board().not_once(1000), 0u);
  cluster.expect_clean_shutdown();
}

}  // namespace
}  // namespace lb::test
