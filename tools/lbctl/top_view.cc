// SPDX-License-Identifier: MIT
#include "top_view.hh"

#include <fmt/format.h>

#include "status.hh"

namespace lbctl {
namespace {

constexpr const char* kRow = "  {:>6} {:>7} {:<9} {:>7} {:>5} {:>9} {:>7} {:>7} {:>6} {}";  // 75 and HUNG

/// In at most six characters: 0, 7.5, 812, 5741, 123k.
std::string in_short(double number) {
  if (number == 0) return "0";
  if (number < 9.95) return fmt::format("{:.1f}", number);
  if (number < 99'999.5) return fmt::format("{:.0f}", number);
  if (number < 99'999'500.) return fmt::format("{:.0f}k", number / 1e3);
  return fmt::format("{:.0f}M", number / 1e6);
}

std::string in_short(uint64_t count) { return count < 10 ? std::to_string(count) : in_short(static_cast<double>(count)); }

/// What was counted between two snapshots.
class Since {
 public:
  Since(const Snapshot& now, const Snapshot& before)
      : before_(before), seconds_(static_cast<double>(now.primary.now_ms - before.primary.now_ms) / 1e3),
        comparable_(now.primary.pid == before.primary.pid && now.primary.now_ms > before.primary.now_ms) {}

  double per_s(uint64_t now, uint64_t before) const {
    return comparable_ && now >= before ? static_cast<double>(now - before) / seconds_ : 0;
  }
  double accepted(const Endpoint& endpoint, const Load& load) const {
    const Load* old = before(endpoint, load);
    return per_s(load.accepted, old != nullptr ? old->accepted : 0);
  }
  double picks(const Endpoint& endpoint, const Load& load) const {
    const Load* old = before(endpoint, load);
    return per_s(load.picks, old != nullptr ? old->picks : 0);
  }
  double outcome(const Endpoint& endpoint, const std::string& name, uint64_t count) const {
    const Endpoint* old = before_.find(endpoint.address);
    if (old == nullptr) return per_s(count, 0);
    const auto found = old->outcomes.find(name);
    return per_s(count, found != old->outcomes.end() ? found->second : 0);
  }

 private:
  const Load* before(const Endpoint& endpoint, const Load& load) const {
    const Endpoint* old = before_.find(endpoint.address);
    return old != nullptr ? old->find(load.worker) : nullptr;
  }

  const Snapshot& before_;
  double seconds_;
  bool comparable_;  // the same primary, and some time has passed
};

std::string endpoint_line(const Endpoint& endpoint, double rate) {
  auto text = fmt::format("  {}/s  queued {}{}", in_short(rate), endpoint.queued, endpoint.datagrams() ? " bytes" : "");
  if (endpoint.queue_age_ms != 0) text += fmt::format(", oldest {} ms", endpoint.queue_age_ms);
  text += fmt::format("  lost {}  retried {}", endpoint.lost, endpoint.retried);
  if (endpoint.strangers != 0) text += fmt::format("  strangers {}", endpoint.strangers);
  if (endpoint.reattached != 0) text += fmt::format("  put back {}", endpoint.reattached);
  return text;
}

std::string outcomes_line(const Endpoint& endpoint, const Since& since) {
  std::string text;
  for (const auto& [name, count] : endpoint.outcomes)
    if (count != 0)
      text += fmt::format("{}{} {}", text.empty() ? "  picks/s: " : ", ", name, in_short(since.outcome(endpoint, name, count)));
  return text;
}

void add(std::vector<Line>& lines, const Endpoint& endpoint, const Snapshot& now, const Since& since) {
  double rate = 0;
  for (const auto& load : endpoint.workers) rate += since.accepted(endpoint, load);
  lines.push_back({endpoint.address + "  " + policy_text(endpoint), Line::Look::head});
  lines.push_back({endpoint_line(endpoint, rate)});
  if (auto outcomes = outcomes_line(endpoint, since); !outcomes.empty()) lines.push_back({std::move(outcomes)});
  lines.push_back({fmt::format(kRow, "WORKER", "PID", "STATE", endpoint.datagrams() ? "DGRAM/S" : "CONN/S", "SHARE", "IN FLIGHT",
                               "BACKLOG", "PICKS/S", "WEIGHT", "HUNG"),
                   Line::Look::titles});
  for (const auto& load : endpoint.workers) {
    const Worker* worker = now.find(load.worker);
    if (worker == nullptr) continue;
    const double own = since.accepted(endpoint, load);
    const auto share = rate > 0 ? fmt::format("{:.0f} %", 100 * own / rate) : "-";
    auto held = in_short(worker->in_flight);
    if (worker->reported != 0) held += "+" + in_short(worker->reported);
    lines.push_back({fmt::format(kRow, load.worker, worker->pid, worker->state, in_short(own), share, held, load.backlog,
                                 in_short(since.picks(endpoint, load)), weight_text(*worker), load.hung ? "hung" : "-"),
                     load.hung ? Line::Look::alarm : Line::Look::plain});
  }
}

}  // namespace

std::vector<Line> top_lines(const Snapshot& now, const Snapshot& before, unsigned columns) {
  std::vector<Line> lines;
  const Since since(now, before);
  for (const auto& endpoint : now.endpoints) {
    if (!lines.empty()) lines.push_back({});
    add(lines, endpoint, now, since);
  }
  for (auto& line : lines)
    if (line.text.size() > columns) line.text.resize(columns);
  return lines;
}

std::string top_head(const Snapshot& now, double every_s, unsigned columns) {
  auto text = fmt::format("primary {}, liblb {}, {}, {} workers", now.primary.pid, now.primary.version, now.primary.state,
                          now.workers.size());
  const auto keys = fmt::format("every {:g} s; q quits", every_s);
  if (text.size() + 2 + keys.size() <= columns) text += std::string(columns - text.size() - keys.size(), ' ') + keys;
  text.resize(std::min<size_t>(text.size(), columns));
  return text;
}

}  // namespace lbctl
