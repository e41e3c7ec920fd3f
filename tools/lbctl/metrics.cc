// SPDX-License-Identifier: MIT
#include "metrics.hh"

#include <fmt/format.h>

#include <functional>
#include <initializer_list>
#include <iterator>
#include <utility>

namespace lbctl {
namespace {

using Labels = std::initializer_list<std::pair<const char*, std::string>>;

/// One metric at a time: its head, once there is a sample, and its samples.
class Exposition {
 public:
  void metric(const char* name, const char* type, const char* help) {
    name_ = name;
    head_ = fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  void sample(const Labels& labels, double value) {
    text_ += std::exchange(head_, {}) + name_;
    const char* before = "{";
    for (const auto& [label, text] : labels) {
      text_ += fmt::format("{}{}=\"{}\"", before, label, escaped(text));
      before = ",";
    }
    if (labels.size() != 0) text_ += '}';
    text_ += fmt::format(" {}\n", value);
  }
  std::string take() { return std::move(text_); }

 private:
  static std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
      if (c == '\n') {
        out += "\\n";
        continue;
      }
      if (c == '\\' || c == '"') out += '\\';
      out += c;
    }
    return out;
  }

  const char* name_ = "";
  std::string head_;
  std::string text_;
};

struct OfEndpoint {
  const char* name;
  const char* type;
  const char* help;
  double (*value)(const Endpoint&);
  bool (*has)(const Endpoint&) = [](const Endpoint&) { return true; };
};
constexpr auto kDatagrams = [](const Endpoint& endpoint) { return endpoint.datagrams(); };
constexpr auto kConnections = [](const Endpoint& endpoint) { return !endpoint.datagrams(); };
constexpr OfEndpoint kOfEndpoint[] = {
    {"liblb_endpoint_queued_connections", "gauge",
     "Connections in the shared accept queue, the workers' own or the primary's hands.",
     [](const Endpoint& e) { return double(e.queued); }, kConnections},
    {"liblb_endpoint_queued_bytes", "gauge", "Memory that waiting datagrams take.",
     [](const Endpoint& e) { return double(e.queued); }, kDatagrams},
    {"liblb_endpoint_queue_age_seconds", "gauge", "How long the oldest connection in the primary's hands has waited.",
     [](const Endpoint& e) { return double(e.queue_age_ms) / 1e3; }},
    {"liblb_endpoint_lost_total", "counter", "Accepted connections that the primary had to drop, or datagrams that the kernel did.",
     [](const Endpoint& e) { return double(e.lost); }},
    {"liblb_endpoint_retried_total", "counter", "Times that the primary put off accepting or handing on.",
     [](const Endpoint& e) { return double(e.retried); }},
    {"liblb_endpoint_bad_picks_total", "counter", "Answers of the program's own selector that could not be followed.",
     [](const Endpoint& e) { return double(e.bad_picks); }},
    {"liblb_endpoint_stealing", "gauge", "1: idle workers take what waits at busy ones.",
     [](const Endpoint& e) { return double(e.stealing); }, kConnections},
    {"liblb_endpoint_strangers", "gauge", "Other processes' sockets that listen at the address too.",
     [](const Endpoint& e) { return double(e.strangers); }, kConnections},
    {"liblb_endpoint_reattached_total", "counter", "Times that somebody took the selection program away and it was put back.",
     [](const Endpoint& e) { return double(e.reattached); }, kConnections},
};

struct OfLoad {
  const char* name;
  const char* type;
  const char* help;
  double (*value)(const Load&);
  bool (*has)(const Endpoint&) = [](const Endpoint&) { return true; };
};
constexpr OfLoad kOfLoad[] = {
    {"liblb_worker_accepted_total", "counter", "Connections, or datagrams, that the worker has taken.",
     [](const Load& l) { return double(l.accepted); }},
    {"liblb_worker_picks_total", "counter", "Times that the worker was picked, by the kernel's program or by the primary.",
     [](const Load& l) { return double(l.picks); }},
    {"liblb_worker_backlog_connections", "gauge", "Connections that wait for this worker alone.",
     [](const Load& l) { return double(l.backlog); }, kConnections},
    {"liblb_worker_backlog_bytes", "gauge", "Memory that datagrams waiting for this worker take.",
     [](const Load& l) { return double(l.backlog); }, kDatagrams},
    {"liblb_worker_hung", "gauge", "1: the worker does not come for what waits for it.",
     [](const Load& l) { return double(l.hung); }},
};

void add_endpoints(Exposition& out, const Snapshot& snapshot) {
  out.metric("liblb_endpoint_info", "gauge", "Policy of the endpoint: asked for, in force, how, and why it is another.");
  for (const auto& endpoint : snapshot.endpoints)
    out.sample({{"endpoint", endpoint.address},
                {"requested", endpoint.requested},
                {"effective", endpoint.effective},
                {"rung", endpoint.rung},
                {"reason", endpoint.reason}},
               1);
  for (const auto& metric : kOfEndpoint) {
    out.metric(metric.name, metric.type, metric.help);
    for (const auto& endpoint : snapshot.endpoints)
      if (metric.has(endpoint)) out.sample({{"endpoint", endpoint.address}}, metric.value(endpoint));
  }
  out.metric("liblb_endpoint_outcomes_total", "counter", "Runs of the selection program, by the way it left.");
  for (const auto& endpoint : snapshot.endpoints)
    for (const auto& [outcome, count] : endpoint.outcomes)
      out.sample({{"endpoint", endpoint.address}, {"outcome", outcome}}, double(count));
}

void add_workers(Exposition& out, const Snapshot& snapshot) {
  out.metric("liblb_workers", "gauge", "Workers by state.");
  for (const char* state : {"spawned", "online", "listening", "draining"}) {
    size_t count = 0;
    for (const auto& worker : snapshot.workers) count += worker.state == state ? 1 : 0;
    out.sample({{"state", state}}, double(count));
  }
  out.metric("liblb_worker_info", "gauge", "What the worker is.");
  for (const auto& worker : snapshot.workers)
    out.sample({{"worker", std::to_string(worker.id)}, {"pid", std::to_string(worker.pid)}, {"kind", worker.kind}}, 1);
  out.metric("liblb_worker_in_flight_connections", "gauge",
             "Connections that the worker has taken and not yet closed, of all endpoints.");
  for (const auto& worker : snapshot.workers) out.sample({{"worker", std::to_string(worker.id)}}, double(worker.in_flight));
  out.metric("liblb_worker_weight", "gauge", "What the worker can take, in relation to the others.");
  for (const auto& worker : snapshot.workers) out.sample({{"worker", std::to_string(worker.id)}}, double(worker.weight));
  out.metric("liblb_worker_reported_connections", "gauge", "Load beyond connections, as the worker reports it.");
  for (const auto& worker : snapshot.workers) out.sample({{"worker", std::to_string(worker.id)}}, double(worker.reported));
  for (const auto& metric : kOfLoad) {
    out.metric(metric.name, metric.type, metric.help);
    for (const auto& endpoint : snapshot.endpoints)
      for (const auto& load : endpoint.workers)
        if (metric.has(endpoint))
          out.sample({{"endpoint", endpoint.address}, {"worker", std::to_string(load.worker)}}, metric.value(load));
  }
}

}  // namespace

std::string metrics_text(const Snapshot& snapshot) {
  Exposition out;
  out.metric("liblb_info", "gauge", "The primary.");
  out.sample({{"version", snapshot.primary.version}, {"pid", std::to_string(snapshot.primary.pid)}}, 1);
  add_endpoints(out, snapshot);
  add_workers(out, snapshot);
  return out.take();
}

}  // namespace lbctl
