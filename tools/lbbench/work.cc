// SPDX-License-Identifier: MIT
#include "work.hh"

#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "clock.hh"

namespace lbbench {
namespace {

constexpr int kSamples = 100;
constexpr uint64_t kSampleNs = 500'000;

void sleep_until(uint64_t end_ns) {
  const timespec end = to_timespec(end_ns);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, nullptr) == EINTR) {
  }
}

std::vector<int64_t> sample_errors(int64_t timer_error_ns) {
  const Workload sleeper(Work::sleep, timer_error_ns);
  std::vector<int64_t> errors;
  for (int i = 0; i < kSamples; ++i) errors.push_back(sleeper.spend(now_ns(), kSampleNs));
  std::ranges::sort(errors);
  return errors;
}

}  // namespace

TimerError TimerError::measure() {
  const auto raw = sample_errors(0);
  const auto residual = sample_errors(raw[kSamples / 2]);
  return {raw[kSamples / 2], residual[kSamples / 2], residual[kSamples * 9 / 10]};
}

Workload::Workload(Work work, int64_t timer_error_ns, double slowdown)
    : work_(work), timer_error_ns_(timer_error_ns), slowdown_(slowdown) {
  prctl(PR_SET_TIMERSLACK, 1UL);
}

int64_t Workload::spend(uint64_t begin_ns, uint64_t service_ns) const {
  if (service_ns == 0) return 0;
  if (slowdown_ != 1) service_ns = static_cast<uint64_t>(static_cast<double>(service_ns) * slowdown_);
  if (work_ == Work::cpu) {
    const uint64_t begin_cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t spent_ns = 0;
    do {
      spent_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - begin_cpu_ns;
    } while (spent_ns < service_ns);
    return static_cast<int64_t>(spent_ns - service_ns);
  }
  const uint64_t end_ns = begin_ns + service_ns;
  const uint64_t wake_ns = end_ns - static_cast<uint64_t>(timer_error_ns_);
  if (now_ns() < wake_ns) sleep_until(wake_ns);
  return static_cast<int64_t>(now_ns() - end_ns);
}

}  // namespace lbbench
