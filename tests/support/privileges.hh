// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

/// Skips a test that this user may not run; a failure where LB_REQUIRE_PRIVILEGED=1 promises the privilege.
#define LB_SKIP_UNPRIVILEGED(reason)                                                     \
  do {                                                                                   \
    const char* required = std::getenv("LB_REQUIRE_PRIVILEGED");                         \
    if (required != nullptr && std::strcmp(required, "1") == 0) {                        \
      GTEST_FAIL() << "LB_REQUIRE_PRIVILEGED=1, but this test cannot run: " << (reason); \
    }                                                                                    \
    GTEST_SKIP() << (reason);                                                            \
  } while (false)

/// What this build of the library holds (Meson's options bpf and uring).
namespace lb::test {
inline constexpr bool kBuiltWithBpf = LB_WITH_BPF;
inline constexpr bool kBuiltWithUring = LB_WITH_URING;
}  // namespace lb::test

/// Skips a test of eBPF selection in a build without it and, where it is built in, for a user who `lacks` what it needs.
#define LB_SKIP_WITHOUT_BPF(lacks, reason)                    \
  do {                                                        \
    if (!kBuiltWithBpf) GTEST_SKIP() << "built without eBPF"; \
    if (lacks) LB_SKIP_UNPRIVILEGED(reason);                  \
  } while (false)
