// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <lb/connection.hh>

#include "wire/scoreboard.hh"

namespace lb {

/// Connections handed off in one packet at most.
inline constexpr size_t kHandoffBatchMax = 32;

/// What travels with the descriptors of a hand-off: for each, its claim word's place and content.
struct HandoffPacket {
  struct Entry {
    uint32_t index;
    uint32_t word;
    uint32_t flags;
  };
  static constexpr uint32_t kAgain = 1;       ///< another worker was to have it, and may still hold a copy of it
  static constexpr uint32_t kAskForMore = 2;  ///< when it is taken, few are left of what the worker was handed
  uint32_t count = 0;
  Entry entry[kHandoffBatchMax];

  size_t size() const noexcept { return offsetof(HandoffPacket, entry) + count * sizeof(Entry); }
  /// Peers are not trusted: do count and size agree?
  bool valid(size_t received) const noexcept {
    return received >= offsetof(HandoffPacket, entry) && count <= kHandoffBatchMax && received == size();
  }
};

/// One hand-off's claim word: (generation << 2) | state. The generation tells a word's uses apart, so that a worker that was
/// stopped for long cannot take what has meanwhile become another's.
class Claim {
 public:
  Claim(__u32& word, uint32_t index, uint32_t sent) noexcept : word_(&word), index_(index), sent_(sent) {}

  /// Primary: a free word of the worker's page, marked as sent.
  static std::optional<Claim> find_free(std::span<__u32> words) noexcept {
    for (uint32_t i = 0; i < words.size(); ++i) {
      const uint32_t old = atomic(words[i]).load();
      if ((old & kStateMask) != LB_CLAIM_FREE) continue;
      const uint32_t sent = ((old & ~kStateMask) + kGeneration) | LB_CLAIM_SENT;
      atomic(words[i]).store(sent);
      return Claim(words[i], i, sent);
    }
    return std::nullopt;
  }

  /// Primary: whatever it says, nothing is on its way by this word. Its generation stays.
  static void clear(__u32& word) noexcept { atomic(word).fetch_and(~kStateMask); }
  /// Primary: is something on its way by this word?
  static bool is_sent(const __u32& word) noexcept { return (atomic(word).load() & kStateMask) == LB_CLAIM_SENT; }

  uint32_t index() const noexcept { return index_; }
  uint32_t word() const noexcept { return sent_; }
  /// Primary. A word of another generation can only be a worker's nonsense; it counts as taken.
  uint32_t state() const noexcept {
    const uint32_t now = atomic(*word_).load();
    return (now & ~kStateMask) == (sent_ & ~kStateMask) ? now & kStateMask : uint32_t{LB_CLAIM_TAKEN};
  }
  /// Primary: true if the worker had not taken it, and now never will.
  bool revoke() noexcept { return settle(LB_CLAIM_FREE); }
  /// Primary: the word may be used again.
  void free() noexcept { atomic(*word_).store(sent_ & ~kStateMask); }
  /// Worker: true if the connection is now this worker's.
  bool take() noexcept { return settle(LB_CLAIM_TAKEN); }
  /// Worker: how a taken connection finds out whether the primary still holds its copy.
  Copies copies(bool certain) const noexcept { return {certain, &atomic(*word_), (sent_ & ~kStateMask) | LB_CLAIM_TAKEN}; }
  /// Worker: another should have it.
  bool refuse() noexcept { return settle(LB_CLAIM_REFUSED); }

 private:
  static constexpr uint32_t kStateMask = 3;
  static constexpr uint32_t kGeneration = 4;

  bool settle(uint32_t state) noexcept {
    uint32_t expected = sent_;
    return atomic(*word_).compare_exchange_strong(expected, (sent_ & ~kStateMask) | state);
  }

  __u32* word_;
  uint32_t index_;
  uint32_t sent_;
};

}  // namespace lb
