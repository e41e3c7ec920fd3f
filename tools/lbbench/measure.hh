// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "record.hh"
#include "result.hh"
#include "trace.hh"

namespace lbbench {

/// Draws offered, completed, lost, throughput, latency, share and the generator's health from the records that count,
/// those intended at `period.warm_up_ns` or later. `worker_ids` are the workers that could have answered.
/// Records that are pending (an interrupted run) count as neither offered nor lost. What a worker that lbbench itself stopped took too
/// long is not the machine's error.
void measure(std::span<const Record> records, Period period, std::span<const uint32_t> worker_ids, RunResult& result,
             std::optional<uint32_t> stopped = {});

/// The ideal's figures for the same connections.
void measure_ideal(const Trace& trace, Period period, const Fleet& fleet, RunResult& result);

/// What a stop of worker `id` did. `from_ns` and `to_ns`: when it was really stopped, and let go on.
HangResult measure_hang(std::span<const Record> records, Period period, uint32_t id, uint64_t from_ns, uint64_t to_ns);

/// Of each burst (records with one intended time) the share of workers that served any of it; the mean over bursts.
double used_per_burst(std::span<const Record> records, Period period, size_t workers);

}  // namespace lbbench
