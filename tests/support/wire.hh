// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

/// What test clients and test workers say to each other.
namespace lb::test {

/// The worker says this as soon as it has accepted, so that a client that reads it knows who has it.
struct Hello {
  uint32_t worker;
  int32_t pid;
};

/// Then the client says its number, when it likes, and the worker repeats it and closes.
using Number = uint64_t;

}  // namespace lb::test
