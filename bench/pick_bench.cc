// SPDX-License-Identifier: MIT
// What the selection program takes for a connection, by the kernel's own account of its runs: the time is that of one run, not that of the
// connect around it. Arguments: slots; 1 if all have connections in flight (but one in 16). Needs root. bpf_cost has more.
#include <benchmark/benchmark.h>

#include "picked_group.hh"

namespace lb::bench {
namespace {

constexpr int kConnects = 100;  // for one iteration: their mean

void pick(benchmark::State& state) {
  const UniqueFd accounting(bpf_enable_stats(BPF_STATS_RUN_TIME));
  if (!accounting) return state.SkipWithError("bpf_enable_stats: needs root");
  PickedGroup group(Rung::kernel_backlog, static_cast<uint32_t>(state.range(0)),
                    state.range(1) != 0 ? State::in_flight : State::idle);
  if (!group.error().empty()) return state.SkipWithError(group.error().c_str());
  for (auto _ : state) {
    const Account before = account();
    for (int i = 0; i < kConnects; ++i)
      if (!group.pick()) return state.SkipWithError("connect");
    state.SetIterationTime(account().since(before) / 1e9);
    group.sockets().hang_up();
  }
}
BENCHMARK(pick)->ArgsProduct({{2, 16, 64, 256}, {0, 1}})->ArgNames({"slots", "in_flight"})->UseManualTime()->Iterations(20);

}  // namespace
}  // namespace lb::bench
