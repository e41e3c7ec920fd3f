// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <lb/worker.hh>

#include "leaks.hh"
#include "program.hh"

/// Exit code: 0 passed, 1 failed, 77 when there was nothing that could be run (Meson's "skipped").
int main(int argc, char** argv) {
  if (lb::is_worker()) {
    const int code = lb::test::run_program(argc, argv);
    std::fflush(nullptr);
    ::_exit(code);  // a worker killed while LeakSanitizer looks through it at exit would leave its tracer to the primary
  }
  if (lb::test::is_primary(argc, argv)) return lb::test::run_primary(argv);
  testing::InitGoogleTest(&argc, argv);
  ::unsetenv("LB_SCHED_POLICY");
  ::unsetenv("LB_STRICT");
  // A worker whose primary has died becomes our child, so that it can be waited for, and cannot be left unseen.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  lb::test::install_leak_listener();
  const int result = RUN_ALL_TESTS();
  const auto& all = *testing::UnitTest::GetInstance();
  const bool none_ran = all.test_to_run_count() > 0 && all.skipped_test_count() == all.test_to_run_count();
  return result == 0 && none_ran ? 77 : result;
}
