// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

/// What a primary says of its cluster, with the names of <lb/status.hh>.
namespace lbctl {

struct Load {
  uint32_t worker = 0;
  uint64_t accepted = 0;
  uint64_t backlog = 0;
  uint64_t picks = 0;
  bool hung = false;
};

struct Endpoint {
  std::string asked;
  std::string address;
  std::string requested;
  std::string effective;
  std::string rung;
  std::string reason;
  std::string changing;     ///< a change of policy that is under way
  std::string not_changed;  ///< why the last one did not take place
  uint64_t queued = 0;
  uint64_t queue_age_ms = 0;
  uint64_t lost = 0;
  uint64_t retried = 0;
  uint64_t bad_picks = 0;
  bool stealing = false;
  uint64_t strangers = 0;
  uint64_t reattached = 0;
  std::map<std::string, uint64_t> outcomes;
  std::vector<Load> workers;

  bool datagrams() const { return address.starts_with("udp://"); }
  const Load* find(uint32_t worker) const;
};

struct Worker {
  uint32_t id = 0;
  int64_t pid = 0;
  uint32_t slot = 0;
  std::string state;
  std::string kind;
  uint64_t in_flight = 0;
  uint64_t accepted = 0;
  uint32_t generation = 0;
  unsigned weight = 1;
  unsigned weight_percent = 100;  ///< how much of it counts by now: less during a slow start
  uint64_t reported = 0;
};

struct Roll {
  std::string state;
  uint32_t generation = 0;
  unsigned total = 0;
  unsigned replaced = 0;
  unsigned starting = 0;
  unsigned draining = 0;
  std::string reason;
};

struct Upgrade {
  std::string state;
  int64_t pid = 0;  ///< the new primary's
  std::string reason;
};

struct PrimaryStatus {
  int64_t pid = 0;
  std::string version;
  std::string state;
  uint64_t now_ms = 0;  ///< its clock (CLOCK_MONOTONIC), for rates
};

struct Snapshot {
  PrimaryStatus primary;
  std::vector<Endpoint> endpoints;
  std::vector<Worker> workers;
  Roll roll;
  std::string scaling;  ///< a change of the number of workers that is not made yet
  Upgrade upgrade;

  /// Throws nlohmann::json::exception when it is no status.
  static Snapshot parse(const nlohmann::json& answer);
  const Endpoint* find(const std::string& address) const;
  const Worker* find(uint32_t worker) const;
};

}  // namespace lbctl
