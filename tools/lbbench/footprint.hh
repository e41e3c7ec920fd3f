// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace lbbench {

/// What a process takes: descriptors, and anonymous memory (RssAnon of proc(5)).
struct Footprint {
  unsigned descriptors;
  uint64_t memory_kib;

  static Footprint of_this_process();
};

/// How many descriptors a process has open; 0: it is not to be asked.
unsigned descriptors_of(pid_t pid);

}  // namespace lbbench
