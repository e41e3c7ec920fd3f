// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include "trace.hh"

namespace lbbench {

enum class Outcome : uint8_t {
  pending,  ///< not begun, or cut off by the end of the measuring
  answered,
  refused,    ///< the server's side sent RST to the SYN
  reset,      ///< the connection broke, or ended before the answer
  timeout,    ///< no answer in time
  not_begun,  ///< the generator could not open a socket: its own fault
};

/// What became of one connection. Lives in memory that the generators share with the main process.
struct Record {
  uint64_t intended_ns;      ///< when it should have begun, from the start of the run
  uint64_t latency_ns;       ///< from then to the last answer, so that waiting anywhere counts
  uint64_t late_ns;          ///< how much later than intended the generator began it
  int64_t service_error_ns;  ///< how much longer than asked the worker kept it
  uint32_t worker;           ///< the id that the answer named
  Outcome outcome;
  uint16_t answer_bytes = 0;  ///< over HTTP: of the last answer, head and body
};

/// Fills in records. Knows no clock: all times are given, in ns from the start of the run.
class Recorder {
 public:
  explicit Recorder(std::span<Record> records) : records_(records) {}

  size_t capacity() const { return records_.size(); }
  void begun(size_t index, uint64_t intended_ns, uint64_t now_ns);
  void answered(size_t index, uint64_t now_ns, uint32_t worker, int64_t service_error_ns, uint64_t answer_bytes = 0);
  void lost(size_t index, uint64_t now_ns, Outcome why);

 private:
  std::span<Record> records_;
};

}  // namespace lbbench
