// SPDX-License-Identifier: MIT
// What all workers on one endpoint have in common: the first one's, or the primary's.
#include <csignal>
#include <string>

#include "contract.hh"

namespace lb::test {
namespace {

class Blob : public PolicyTest {};
LB_FOR_EVERY_POLICY(Blob);

/// A worker that offers "offered by N" and says on the board which it got: 0 none, N worker N's, 100 the primary's, 200 nonsense.
uint32_t origin(std::string_view blob) {
  if (blob.empty()) return 0;
  if (blob == "set by the primary") return 100;
  for (uint32_t id = 1; id < 8; ++id) {
    if (blob == "offered by " + std::to_string(id)) return id;
  }
  return 200;
}

WorkerFunction offering(Board& board) {
  return [&](Worker& worker) {
    auto listener = worker.listen(kAnyPort, {.blob = "offered by " + std::to_string(worker.id())});
    if (!listener) return board.fail(listener.error().message());
    board.flag[worker.id()] = origin(listener->blob());
    return answer_all(worker, *listener, Style::blocking, board);
  };
}

bool told(TestCluster& cluster, uint32_t worker) {
  return cluster.wait_until("the worker to say what it got",
                            [&] { return cluster.board().flag[worker] != 0 && cluster.event(Event::Kind::listening, worker); });
}

TEST_P(Blob, N32_first_workers_blob_is_given_to_later_workers_whatever_they_offer_and_outlives_it) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, offering(board)));
  ASSERT_TRUE(cluster.start(1, offering(board)));
  ASSERT_TRUE(told(cluster, 1) && told(cluster, 2));
  EXPECT_EQ(board.flag[1], 1u);
  EXPECT_EQ(board.flag[2], 1u);
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(told(cluster, 3));
  EXPECT_EQ(board.flag[3], 1u) << "the replacement, after worker 1's death";
  cluster.expect_clean_shutdown();
}

TEST_P(Blob, N32_blob_survives_the_death_of_the_only_worker) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(1, offering(board)));
  ASSERT_TRUE(told(cluster, 1));
  ::kill(cluster.worker(1).pid, SIGKILL);
  ASSERT_TRUE(told(cluster, 2));
  EXPECT_EQ(board.flag[2], 1u);
  cluster.expect_clean_shutdown();
}

TEST_P(Blob, N32_primary_may_set_it_beforehand_and_anew) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster->set_blob(kAnyPort, "set by the primary"));
  ASSERT_TRUE(cluster.start(1, offering(board)));
  ASSERT_TRUE(told(cluster, 1));
  EXPECT_EQ(board.flag[1], 100u);
  ASSERT_TRUE(cluster->set_blob(kAnyPort, "offered by 7"));
  ASSERT_TRUE(cluster.start(1, offering(board)));
  ASSERT_TRUE(told(cluster, 2));
  EXPECT_EQ(board.flag[2], 7u) << "who listens after it was set anew";
  cluster.expect_clean_shutdown();
}

TEST_P(Blob, N32_who_offers_none_leaves_it_to_others_and_an_endpoint_given_up_forgets_it) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  ASSERT_TRUE(cluster.start(
      1,
      [&](Worker& worker) {
        auto none = worker.listen(kAnyPort).value();
        auto other = worker.listen(kAnyPort, {.blob = "offered by 5"}).value();  // the second of its index: another endpoint
        board.flag[0] = static_cast<uint32_t>(none.blob().size());
        board.flag[1] = origin(other.blob());
        none.close();
        other.close();
        auto again = worker.listen(kAnyPort, {.blob = "offered by 6"}).value();
        board.flag[2] = origin(again.blob());
        return answer_all(worker, again, Style::blocking, board);
      },
      3));
  ASSERT_TRUE(cluster.wait_until("the blobs", [&] { return board.flag[2] != 0; }));
  EXPECT_EQ(board.flag[0], 0u);
  EXPECT_EQ(board.flag[1], 5u);
  EXPECT_EQ(board.flag[2], 6u);
  cluster.expect_clean_shutdown();
}

TEST_P(Blob, N32_blob_of_any_bytes_up_to_the_limit_arrives_whole_and_a_longer_one_is_an_error) {
  TestCluster cluster(policy());
  auto& board = cluster.board();
  std::string longest(kBlobMax, '\0');
  for (size_t i = 0; i < longest.size(); ++i) longest[i] = static_cast<char>(i * 31);
  ASSERT_TRUE(cluster.start(2, [&](Worker& worker) {
    const auto refused = worker.listen(kAnyPort, {.blob = longest + "x"});
    board.flag[0] = static_cast<uint32_t>(refused.error().code);
    auto listener = worker.listen(kAnyPort, {.blob = longest}).value();
    board.flag[worker.id()] = listener.blob() == longest ? 1 : 2;
    return answer_all(worker, listener, Style::blocking, board);
  }));
  ASSERT_TRUE(cluster.wait_until("both", [&] { return board.flag[1] != 0 && board.flag[2] != 0; }));
  EXPECT_EQ(board.flag[0], unsigned{EMSGSIZE});
  EXPECT_EQ(board.flag[1], 1u);
  EXPECT_EQ(board.flag[2], 1u);
  cluster.expect_clean_shutdown();
}

TEST(BlobAlone, N32_primary_is_told_what_it_cannot_set) {
  TestCluster cluster("auto");
  const auto refused = cluster->set_blob(kAnyPort, std::string(kBlobMax + 1, 'x'));
  EXPECT_EQ(refused.error().code, EMSGSIZE);
  EXPECT_NE(refused.error().message().find("4097"), std::string::npos) << refused.error().message();
  EXPECT_EQ(cluster->set_blob("tcp://nowhere", "x").error().code, EINVAL);
}

}  // namespace
}  // namespace lb::test
