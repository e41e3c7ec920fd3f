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
