// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "ledger.hh"

namespace lbbench {

/// What was done to a cluster, and what became of its workers, in the order of time: to tell, of a connection that was lost, what went
/// on just then. In memory that processes share. The latest entries are kept.
class Chronicle {
 public:
  static constexpr uint32_t kKept = 1 << 15;

  void add(uint64_t at_ns, std::string_view what);
  /// When it happened, in seconds from `origin_ns`, who had the connection, and the entries around it, from three
  /// seconds before; of one without an answer, around its beginning.
  std::string explain(const Loss& loss, uint64_t origin_ns) const;

 private:
  struct Entry {
    uint64_t at_ns;
    std::array<char, 88> what;
  };
  std::array<Entry, kKept> entries_{};
  std::atomic<uint32_t> count_{0};
};

}  // namespace lbbench
