// SPDX-License-Identifier: MIT
#include "measure.hh"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "ideal.hh"

namespace lbbench {
namespace {

constexpr uint64_t kNoticeNs = 200'000'000;  // what a policy may take to notice; and before the end, what a queue may hold

void count_lost(Outcome outcome, RunResult& result) {
  switch (outcome) {
    case Outcome::refused:
      ++result.lost.refused;
      break;
    case Outcome::reset:
      ++result.lost.reset;
      break;
    case Outcome::timeout:
      ++result.lost.timeout;
      break;
    case Outcome::not_begun:
      ++result.generator.not_begun;
      break;
    case Outcome::pending:
    case Outcome::answered:
      break;
  }
}

}  // namespace

void measure(std::span<const Record> records, Period period, std::span<const uint32_t> worker_ids, RunResult& result,
             std::optional<uint32_t> stopped) {
  std::vector<uint64_t> latencies_ns;
  std::vector<uint64_t> late_ns;
  std::vector<double> service_errors_us;
  std::map<uint32_t, uint64_t> per_worker;
  for (const uint32_t id : worker_ids) per_worker[id] = 0;
  uint64_t answer_bytes = 0;
  uint64_t last_ns = period.end_ns;
  for (const auto& record : records) {
    if (record.outcome == Outcome::pending || record.intended_ns < period.warm_up_ns) continue;
    ++result.offered;
    count_lost(record.outcome, result);
    if (record.outcome != Outcome::not_begun) late_ns.push_back(record.late_ns);
    if (record.outcome != Outcome::answered) continue;
    latencies_ns.push_back(record.latency_ns);
    answer_bytes += record.answer_bytes;
    if (!result.http && record.worker != stopped) service_errors_us.push_back(static_cast<double>(record.service_error_ns) / 1e3);
    ++per_worker[record.worker];
    last_ns = std::max(last_ns, record.intended_ns + record.latency_ns);
  }
  result.completed = latencies_ns.size();
  if (result.completed > 0) result.answer_bytes = static_cast<double>(answer_bytes) / static_cast<double>(result.completed);
  result.throughput_per_s = static_cast<double>(result.completed) / (static_cast<double>(last_ns - period.warm_up_ns) / 1e9);
  result.histogram = Histogram::of(latencies_ns);
  result.latency = summarize(std::move(latencies_ns));
  if (!service_errors_us.empty()) {
    const double sum = std::accumulate(service_errors_us.begin(), service_errors_us.end(), 0.0);
    result.service_error_us.mean = sum / static_cast<double>(service_errors_us.size());
    result.service_error_us.median = median(std::move(service_errors_us));
  }
  std::ranges::sort(late_ns);
  result.generator.late_p99_ms = static_cast<double>(percentile(late_ns, 99)) / 1e6;
  result.generator.late_max_ms = static_cast<double>(percentile(late_ns, 100)) / 1e6;
  std::vector<uint64_t> counts;
  for (const auto& [id, count] : per_worker) counts.push_back(count);
  result.share = share_of(std::move(counts));
}

void measure_ideal(const Trace& trace, Period period, const Fleet& fleet, RunResult& result) {
  const auto all_ns = simulate_ideal(trace, fleet);
  std::vector<uint64_t> counted_ns;
  for (size_t i = 0; i < trace.size(); ++i) {
    if (trace[i].ask_ns() >= period.warm_up_ns) counted_ns.push_back(all_ns[i]);
  }
  result.ideal_histogram = Histogram::of(counted_ns);
  result.ideal = summarize(std::move(counted_ns));
}

HangResult measure_hang(std::span<const Record> records, Period period, uint32_t id, uint64_t from_ns, uint64_t to_ns) {
  HangResult result{.worker = id, .stopped_s = static_cast<double>(to_ns - from_ns) / 1e9};
  std::vector<uint64_t> others_ns;
  for (const auto& record : records) {
    if (record.outcome != Outcome::answered || record.intended_ns < period.warm_up_ns) continue;
    if (record.worker != id) {
      others_ns.push_back(record.latency_ns);
    } else if (record.intended_ns >= from_ns + kNoticeNs && record.intended_ns + kNoticeNs < to_ns) {
      ++result.sent_after_notice;
    }
  }
  result.others = summarize(std::move(others_ns));
  return result;
}

double used_per_burst(std::span<const Record> records, Period period, size_t workers) {
  std::map<uint64_t, std::set<uint32_t>> bursts;
  for (const auto& record : records) {
    if (record.outcome == Outcome::answered && record.intended_ns >= period.warm_up_ns)
      bursts[record.intended_ns].insert(record.worker);
  }
  if (bursts.empty() || workers == 0) return 0;
  size_t used = 0;
  for (const auto& [at, ids] : bursts) used += ids.size();
  return static_cast<double>(used) / static_cast<double>(bursts.size() * workers);
}

}  // namespace lbbench
