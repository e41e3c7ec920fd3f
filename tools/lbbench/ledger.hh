// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "record.hh"
#include "result.hh"

namespace lbbench {

/// A connection that ended without its answers.
struct Loss {
  uint64_t at_ns;   ///< CLOCK_MONOTONIC, when the client saw it
  uint32_t worker;  ///< the id of the worker whose own code had it, as that worker wrote down; 0: none had
  Outcome outcome;  ///< refused, reset or timeout
  uint64_t begun_ns = 0;
};

/// What is known of one worker, by its number: its id, and kWorkersOfOne more for each primary before its own. Outlives it.
struct WorkerLine {
  std::atomic<uint64_t> killed_ns{0};  ///< CLOCK_MONOTONIC, just before lbbench killed it; 0: it did not
  std::atomic<uint32_t> taking{0};     ///< 1: from before it asks liblb for a connection until it has written down which it got
};

/// Shared by clients, workers and whoever does the harm, so that every connection can be accounted for: a client is known by its port,
/// which a worker writes its id to as soon as its own code has the connection.
struct Ledger {
  static constexpr uint32_t kPrimariesMax = 64;
  static constexpr uint32_t kWorkersEver = 1 << 19;
  static constexpr uint32_t kWorkersOfOne = kWorkersEver / kPrimariesMax;  ///< of one primary, where there are several
  static constexpr uint32_t kLossesMax = 1 << 16;                          ///< more are counted, and are lost whoever had them

  std::array<std::atomic<uint32_t>, 1 << 16> taker{};
  std::array<WorkerLine, kWorkersEver> workers{};
  std::array<Loss, kLossesMax> losses{};
  std::atomic<uint32_t> loss_count{0};
  std::atomic<uint64_t> begun{0};
  std::atomic<uint64_t> completed{0};  ///< all answers came, and then the end
  std::atomic<uint64_t> left{0};       ///< the client itself went, as it was meant to
  std::atomic<uint64_t> not_begun{0};  ///< no socket or port to be had
  std::atomic<uint32_t> taken_twice{0};
  std::atomic<bool> stop{false};  ///< begin no further connection

  /// Worker `id` has the connection `fd`. Those from elsewhere than 127.0.0.1 are not judged (Manners::rude) and not noted.
  void took(int fd, uint32_t id);
  void lose(const Loss& loss);
  std::span<const Loss> all_losses() const;
};

/// What became of the connections that got no answer.
struct Account {
  uint64_t with_worker = 0;  ///< the code of a worker had it that was killed then: nobody can save these
  uint64_t in_accept = 0;  ///< the same, but the worker was killed inside its call for a connection: one at most for each such kill
  Lost lost;               ///< nobody had it, or one who lived: liblb's fault
  std::vector<Loss> faults;  ///< the same, one by one
};

/// A loss is put down to a kill only if it came after it, and within 2 s of it if it was in accept.
Account account(std::span<const Loss> losses, std::span<const WorkerLine> workers);

}  // namespace lbbench
