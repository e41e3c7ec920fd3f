// SPDX-License-Identifier: MIT
#include "promptness.hh"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace lbbench {
namespace {

/// The kernel's struct sched_attr, first version; its header and older glibc's <sched.h> exclude each other.
struct SchedulingAttributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime_ns;
  uint64_t deadline_ns;
  uint64_t period_ns;
};

}  // namespace

void be_prompt() {
  prctl(PR_SET_TIMERSLACK, 1UL);
  SchedulingAttributes attributes{};
  attributes.size = sizeof attributes;
  attributes.policy = SCHED_OTHER;
  attributes.runtime_ns = 100'000;
  (void)!syscall(SYS_sched_setattr, 0, &attributes, 0U);  // older kernels take no notice
}

}  // namespace lbbench
