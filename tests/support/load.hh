// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <lb/endpoint.hh>
#include <lb/unique_fd.hh>
#include <string>
#include <vector>

#include "board.hh"
#include "shared.hh"

namespace lb::test {

struct LoadPlan {
  Endpoint to;
  uint32_t count = 2000;       ///< connections, numbered from 0, and from 0 again after Board::kNumbers
  uint32_t at_once = 32;       ///< closed loop: that many under way at any time
  bool until_refused = false;  ///< stop before `count` when nobody listens any more
};

/// A client process that connects again and again, and counts what became of it.
class Load {
 public:
  explicit Load(const LoadPlan& plan);
  ~Load();
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  /// Readable once the process has ended.
  int pidfd() const noexcept { return pidfd_.get(); }
  bool over() const noexcept;
  /// Begins no further connections.
  void stop() const noexcept { result_->stop = true; }

  uint32_t started() const noexcept { return result_->started; }
  uint32_t answered() const noexcept { return result_->answered; }
  uint32_t refused() const noexcept { return result_->refused; }
  uint32_t lost() const noexcept { return result_->lost; }
  /// Of the lost, those to whom no worker had said hello.
  uint32_t lost_unheard() const noexcept { return result_->lost_unheard; }
  /// Connections that each worker answered: index is the worker's id.
  std::vector<unsigned> per_worker() const;
  std::string describe() const;

 private:
  struct Result {
    std::atomic<uint32_t> started{0};
    std::atomic<uint32_t> answered{0};
    std::atomic<uint32_t> refused{0};
    std::atomic<uint32_t> lost{0};
    std::atomic<uint32_t> lost_unheard{0};
    std::atomic<bool> stop{false};
    std::array<std::atomic<uint32_t>, Board::kWorkers> by_worker{};
    std::array<char, 128> first_loss{};
  };

  static void run(const LoadPlan& plan, Result& result);

  Shared<Result> result_;
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

}  // namespace lb::test
