// SPDX-License-Identifier: MIT
// What crosses processes: packets, control messages, claim words. Peers are not trusted.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "wire/channel.hh"
#include "wire/handoff.hh"

namespace lb {
namespace {

struct Ends {
  UniqueFd near;
  UniqueFd far;
};

Ends make_ends() {
  auto ends = make_channel().value();
  return {std::move(ends.first), std::move(ends.second)};
}

UniqueFd some_fd() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

TEST(Channel, message_arrives_whole_with_its_descriptors_close_on_exec) {
  auto ends = make_ends();
  Channel sender(std::move(ends.near));
  Channel receiver(std::move(ends.far));
  const UniqueFd fd = some_fd();
  const int fds[] = {fd.get(), fd.get()};
  Message sent;
  sent.act = Act::query_listener;
  sent.set_text("tcp://127.0.0.1:80");
  ASSERT_TRUE(sender.send(sent, fds));
  Message got;
  Packet packet;
  ASSERT_TRUE(receiver.receive(got, packet));
  EXPECT_EQ(packet.state, Packet::State::received);
  EXPECT_EQ(got.act, Act::query_listener);
  EXPECT_EQ(got.sequence, 1u);
  EXPECT_EQ(got.get_text(), "tcp://127.0.0.1:80");
  ASSERT_EQ(packet.fd_count, 2u);
  EXPECT_EQ(::fcntl(packet.fds[0].get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(Channel, empty_is_nothing_and_a_gone_peer_is_closed) {
  auto ends = make_ends();
  Channel receiver(std::move(ends.far));
  Message message;
  Packet packet;
  ASSERT_TRUE(receiver.receive(message, packet));
  EXPECT_EQ(packet.state, Packet::State::nothing);
  ends.near.reset();
  ASSERT_TRUE(receiver.receive(message, packet));
  EXPECT_EQ(packet.state, Packet::State::closed);
}

TEST(Channel, message_of_another_size_or_version_breaks_the_protocol_and_its_descriptors_are_closed) {
  auto ends = make_ends();
  Channel receiver(std::move(ends.far));
  const UniqueFd fd = some_fd();
  const int fds[] = {fd.get()};
  Message bad;
  bad.version = 77;
  std::vector<char> long_one(sizeof(Message) + 1);
  std::memcpy(long_one.data(), &Message::kVersion, sizeof Message::kVersion);
  ASSERT_TRUE(send_packet(ends.near.get(), "x", 1, fds));
  ASSERT_TRUE(send_packet(ends.near.get(), &bad, sizeof bad, {}));
  ASSERT_TRUE(send_packet(ends.near.get(), long_one.data(), long_one.size(), {}));
  bad.version = Message::kVersion;
  bad.text_length = Message::kTextMax + 1;
  ASSERT_TRUE(send_packet(ends.near.get(), &bad, sizeof bad, {}));
  for (const int code : {EPROTO, EPROTONOSUPPORT, EPROTO, EPROTO}) {
    Message message;
    Packet packet;
    const auto received = receiver.receive(message, packet);
    ASSERT_FALSE(received);
    EXPECT_EQ(received.error().code, code);
    if (code == EPROTONOSUPPORT) {
      EXPECT_EQ(message.version, 77);
    }
  }
}

TEST(Channel, payload_follows_its_message_and_must_be_there_and_have_room) {
  auto ends = make_ends();
  Channel sender(std::move(ends.near));
  Channel receiver(std::move(ends.far));
  const std::string payload(Message::kPayloadMax, 'p');
  std::array<char, Message::kPayloadMax> room{};
  Message message;
  Packet packet;
  ASSERT_TRUE(sender.send(message, {}, payload));
  ASSERT_TRUE(receiver.receive(message, packet, room));
  EXPECT_EQ(std::string_view(room.data(), message.payload_length), payload);
  EXPECT_EQ(sender.send(message, {}, payload + "x").error().code, EMSGSIZE);
  ASSERT_TRUE(sender.send(message, {}, "x"));
  EXPECT_EQ(receiver.receive(message, packet).error().code, EPROTO) << "no room";
  message.payload_length = 5;
  ASSERT_TRUE(send_packet(sender.fd(), &message, sizeof message, {}));
  EXPECT_EQ(receiver.receive(message, packet, room).error().code, EPROTO) << "not there";
  message.payload_length = 0;
  ASSERT_TRUE(send_packet(sender.fd(), &message, sizeof message, {}, std::as_bytes(std::span("more"))));
  EXPECT_EQ(receiver.receive(message, packet, room).error().code, EPROTO) << "not announced";
  ASSERT_TRUE(sender.send(message));
  ASSERT_TRUE(receiver.receive(message, packet, room));
  EXPECT_EQ(message.payload_length, 0u);
}

TEST(Channel, full_descriptor_table_is_reported) {
  auto ends = make_ends();
  const UniqueFd fd = some_fd();
  const int fds[] = {fd.get(), fd.get(), fd.get()};
  ASSERT_TRUE(send_packet(ends.near.get(), "x", 1, fds));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const UniqueFd next = some_fd();  // the lowest free number: room for exactly one more above it
  rlimit tight{static_cast<rlim_t>(next.get()) + 2, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  char byte = 0;
  Packet packet;
  const auto received = receive_packet(ends.far.get(), &byte, 1, packet);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(received);
  EXPECT_TRUE(packet.fds_lost);
  EXPECT_EQ(packet.fd_count, 1u) << "what fitted is owned, so that it is closed";
}

TEST(Channel, full_channel_says_so_at_once) {
  auto ends = make_ends();
  Channel sender(std::move(ends.near));
  Message message;
  Result<void> sent;
  int count = 0;
  for (; sent && count < 100'000; ++count) sent = sender.send(message);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, EAGAIN);
}

TEST(Mapping, kept_from_children_is_not_there_in_one_and_leaves_alone_what_has_come_in_its_place) {
  constexpr size_t kSize = 4096;
  const auto memory = make_memory("lb-test", kSize).value();
  auto kept = Mapping::map(memory.get(), kSize, 0, true).value();
  kept.keep_from_children();
  void* const place = kept.get();
  const pid_t child = ::fork();
  if (child == 0) {
    if (::msync(place, kSize, MS_ASYNC) == 0) ::_exit(1);  // ENOMEM: nothing is mapped there
    if (::mmap(place, kSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != place) ::_exit(2);
    kept = Mapping();
    ::_exit(::msync(place, kSize, MS_ASYNC) == 0 ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(::msync(place, kSize, MS_ASYNC), 0) << "it is ours";
  kept = Mapping();
  EXPECT_NE(::msync(place, kSize, MS_ASYNC), 0);
}

TEST(Handoff, packet_whose_count_and_size_disagree_is_not_valid) {
  HandoffPacket packet;
  packet.count = 3;
  EXPECT_TRUE(packet.valid(packet.size()));
  EXPECT_FALSE(packet.valid(packet.size() - 1));
  EXPECT_FALSE(packet.valid(packet.size() + 1));
  EXPECT_FALSE(packet.valid(0));
  packet.count = kHandoffBatchMax + 1;
  EXPECT_FALSE(packet.valid(sizeof packet));
}

class Claims : public testing::Test {
 protected:
  Claim handed() { return Claim::find_free(words_).value(); }
  Claim as_worker(const Claim& claim) { return {words_[claim.index()], claim.index(), claim.word()}; }

  __u32 words_[4] = {};
};

TEST_F(Claims, taken_connection_cannot_be_revoked_and_a_revoked_one_cannot_be_taken) {
  Claim first = handed();
  EXPECT_EQ(first.state(), uint32_t{LB_CLAIM_SENT});
  EXPECT_TRUE(as_worker(first).take());
  EXPECT_FALSE(first.revoke());
  EXPECT_EQ(first.state(), uint32_t{LB_CLAIM_TAKEN});
  Claim second = handed();
  EXPECT_TRUE(second.revoke());
  EXPECT_FALSE(as_worker(second).take());
}

TEST_F(Claims, refused_connection_is_the_primarys_again) {
  Claim claim = handed();
  EXPECT_TRUE(as_worker(claim).refuse());
  EXPECT_EQ(claim.state(), uint32_t{LB_CLAIM_REFUSED});
  EXPECT_FALSE(as_worker(claim).take());
}

TEST_F(Claims, word_that_is_used_again_is_not_mistaken_for_its_earlier_use) {
  Claim old = handed();
  Claim stale = as_worker(old);  // a worker stopped with the packet in its hand
  EXPECT_TRUE(old.revoke());
  old.free();
  Claim next = handed();
  ASSERT_EQ(next.index(), old.index());
  EXPECT_FALSE(stale.take());
  EXPECT_FALSE(stale.refuse());
  EXPECT_EQ(next.state(), uint32_t{LB_CLAIM_SENT});
}

TEST_F(Claims, words_run_out_and_come_back) {
  std::vector<Claim> all;
  while (auto claim = Claim::find_free(words_)) all.push_back(*claim);
  EXPECT_EQ(all.size(), 4u);
  all[2].free();
  EXPECT_EQ(handed().index(), 2u);
}

TEST_F(Claims, nonsense_in_a_word_counts_as_taken) {
  Claim claim = handed();
  words_[claim.index()] = 0xdeadbeef;
  EXPECT_EQ(claim.state(), uint32_t{LB_CLAIM_TAKEN}) << "the connection may be lost to that worker, but is served at most once";
  EXPECT_FALSE(claim.revoke());
}

}  // namespace
}  // namespace lb
