// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace lbbench {

/// What the generator asks of a worker, unless it speaks HTTP (http_talk.hh). A connection carries one or more requests, one at a time, in host byte order:
/// both ends are on one machine.
struct Request {
  uint64_t service_ns;  ///< how long the worker shall be busy with it
  uint64_t last;        ///< 1: the worker closes after the answer
};

struct Answer {
  int64_t service_error_ns;  ///< how much longer than asked it took
  uint32_t worker;           ///< who served it
  uint32_t reserved;
};

/// Of a datagram; `id` comes back in the answer.
struct DatagramRequest {
  uint64_t service_ns;
  uint64_t id;
};

struct DatagramAnswer {
  int64_t service_error_ns;
  uint64_t id;
  uint32_t worker;
  uint32_t reserved;
};

static_assert(sizeof(Request) == 16 && sizeof(Answer) == 16);

}  // namespace lbbench
