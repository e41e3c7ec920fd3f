// SPDX-License-Identifier: MIT
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <lb/lb.hh>
#include <optional>
#include <string>
#include <vector>

#include "clock.hh"
#include "fault_server.hh"

namespace lbbench {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kPatienceNs = 30'000 * kMs;  // longer than liblb needs for anything, on a busy machine too

/// The cluster that faults are done to: drives it, keeps it staffed, and takes down in the report what becomes of it.
class FaultCluster {
 public:
  FaultCluster(const FaultServerPlan& plan, Ledger& ledger, FaultServerReport& report)
      : plan_(plan), ledger_(ledger), report_(report), first_(plan.primary * Ledger::kWorkersOfOne),
        target_(plan.primary == 0 ? plan.workers : plan.workers_now) {}

  /// With the workers that there are to be. What fails from here on is in the report, and gives false.
  bool open(const std::string& policy);
  /// After its shutdown.
  void close() { cluster_.reset(); }
  lb::Cluster* operator->() { return &*cluster_; }

  bool failed(const std::string& why);
  template <class... Arguments>
  void note(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    report_.chronicle.add(now_ns(), fmt::format(format, std::forward<Arguments>(arguments)...));
  }

  /// Lets the cluster work until `condition` holds. False, with a report, when it does not within reason.
  bool until(const char* what, const std::function<bool()>& condition, uint64_t patience_ns = kPatienceNs);
  bool rest(uint64_t pause_ns);

  /// What was taken away is given back in time, or by `undo_all`.
  void undo_in(uint64_t ns, std::function<void()> act) { undos_.push_back({now_ns() + ns, std::move(act)}); }
  void undo_all();

  unsigned listening() const;
  /// How many workers there are to be.
  unsigned target() const { return target_; }
  void set_target(unsigned workers) { target_ = workers; }
  /// How many there may be.
  unsigned most() const;
  /// Nobody is replaced any more.
  void let_leave() { leaving_ = true; }

  /// The number of a worker, among those of all primaries, and its line in the ledger.
  uint32_t number_of(uint32_t id) const { return first_ + id; }
  WorkerLine& line_of(uint32_t id) const { return ledger_.workers[number_of(id)]; }
  uint32_t last_id() const { return ids_; }
  /// It has no descriptors, so it may fail to start.
  void may_not_start(uint32_t id) { starved_.push_back(id); }

  unsigned rolls_ended() const { return rolls_ended_; }
  unsigned changes_ended() const { return changes_ended_; }
  bool took_over() const { return took_over_; }
  bool handed_over() const { return handed_over_; }
  bool upgrade_failed() const { return upgrade_failed_; }
  void forget_failed_upgrade() { upgrade_failed_ = false; }

 private:
  /// Something that was taken away.
  struct Undo {
    uint64_t at_ns;
    std::function<void()> act;
  };

  void note(const lb::Event& event);
  void on_event(const lb::Event& event);
  void on_exit(const lb::Event& event);
  bool turn(uint64_t timeout_ms);
  void keep_staffed(uint64_t now);

  const FaultServerPlan& plan_;
  Ledger& ledger_;
  FaultServerReport& report_;
  const uint32_t first_;  // what is added to a worker's id
  std::optional<lb::Cluster> cluster_;
  unsigned target_;
  std::vector<Undo> undos_;
  std::vector<uint32_t> starved_;  // ever
  uint64_t staff_ns_ = 0;
  unsigned rolls_ended_ = 0;
  unsigned changes_ended_ = 0;
  uint32_t ids_ = 0;
  bool took_over_ = false;
  bool handed_over_ = false;
  bool upgrade_failed_ = false;
  bool leaving_ = false;
};

/// Text into a field of the report, as much as it holds.
template <size_t N>
void put(std::array<char, N>& to, const std::string& text) {
  to[text.copy(to.data(), N - 1)] = '\0';
}

}  // namespace lbbench
