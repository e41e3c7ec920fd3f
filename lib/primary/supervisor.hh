// SPDX-License-Identifier: MIT
#pragma once

#include <signal.h>

#include <memory>
#include <optional>
#include <vector>

#include <lb/cluster.hh>

#include "backends/backend.hh"
#include "primary/launch.hh"
#include "sys/event_loop.hh"
#include "sys/process.hh"
#include "wire/channel.hh"

namespace lb {

/// One worker, from its start to its end.
struct WorkerRecord {
  uint32_t id = 0;
  uint32_t slot = 0;
  pid_t pid = 0;
  std::unique_ptr<Life> life;
  Channel channel;
  UniqueFd messages;  ///< the user's own, beside the control channel: neither can hold up the other
  Recipe recipe;
  std::optional<unsigned> cpu;  ///< that it is to pin itself to
  WorkerState state = WorkerState::spawned;
  uint64_t started_ns = 0;
  uint64_t cold_since_ns = 0;  ///< its slow start's begin; 0: it is warm, or does not listen
  uint64_t deadline_ns = 0;    ///< when a drain's patience ends; 0: it is not draining
  uint64_t gone_by_ns = 0;     ///< it has let go of its channel, and may live on until then; 0: it has not
  unsigned crashes = 0;        ///< in a row, its predecessors' included
  unsigned listens = 0;        ///< on how many endpoints it listens
  unsigned idle_talk = 0;      ///< messages that told us nothing
  int ended_by = 0;            ///< the signal by which we were asked to end it
  bool spawn_told = false;     ///< its `spawned` event is out
  bool newcomer = false;       ///< others served when it was spawned
  bool came_online = false;
  bool announced = false;  ///< it said that its exit is meant
  bool drain_told = false;
  bool drain_all = false;
  bool retired = false;  ///< its end is the primary's plan, by force too
  bool exited = false;
  bool lost = false;           ///< it was to be killed, and cannot be, or has ended, and nobody tells how: it counts as gone
  uint64_t reap_until_ns = 0;  ///< exited: how long the word of its end may be withheld; 0: it is not
  std::optional<ExitStatus> status{};  ///< how it ended
  EventLoop::Token channel_token = 0;
  EventLoop::Token messages_token = 0;
  EventLoop::Token exit_token = 0;

  Seat seat() const noexcept { return {id, slot}; }
};

/// Starts workers and replaces those that crash. Knows nothing of endpoints.
class Supervisor {
 public:
  Supervisor(Options& options, Surroundings& around) noexcept;

  /// Runs in a forked child before user code: lets go of all that is the primary's.
  std::function<void()> abandon;
  /// In that child: closes what the primary has of each worker.
  void disown_workers() noexcept;
  /// The worker's channel is readable.
  std::function<void(WorkerRecord&)> on_message;
  /// The user's program in the worker has sent something. Without it, nothing is read.
  std::function<void(WorkerRecord&)> on_user_message;

  Result<WorkerRecord*> spawn(Recipe recipe, unsigned crashes = 0) noexcept;

  std::vector<std::unique_ptr<WorkerRecord>>& workers() noexcept { return workers_; }
  const std::vector<std::unique_ptr<WorkerRecord>>& workers() const noexcept { return workers_; }
  WorkerRecord* find(uint32_t id) noexcept;
  bool holds(pid_t pid) const noexcept;
  uint32_t last_id() const noexcept { return last_id_; }
  /// The signal mask of before we blocked any.
  const sigset_t& worker_mask() const noexcept { return worker_mask_; }

  Result<void> tell(WorkerRecord& worker, Message& message, std::span<const int> fds, std::string_view payload = {}) noexcept;
  /// SIGKILL: it broke the protocol, or its deadline has passed. A worker that nothing can kill counts as gone.
  void kill(WorkerRecord& worker) noexcept;
  /// Reaps what has been killed, or ended, later if it cannot be now.
  void reap_later(std::unique_ptr<Life> life) noexcept;
  /// Kills those that can be killed, cuts the others off, which drains them, and waits for all.
  void end_all() noexcept;
  /// No message of it is looked at any more.
  void cut_channel(WorkerRecord& worker) noexcept;
  /// The same for the user's messages.
  void cut_messages(WorkerRecord& worker) noexcept;

  /// Takes a worker that has exited out of the books; empty when there is none.
  struct Departed {
    std::unique_ptr<WorkerRecord> worker;
    ExitStatus status;
  };
  std::optional<Departed> next_departed() noexcept;

  /// A replacement for a crashed worker, after a pause that grows with the crashes in a row; returns the pause.
  std::chrono::milliseconds schedule_respawn(const WorkerRecord& crashed) noexcept;
  /// At once, as if it had never crashed.
  void respawn(Recipe recipe) { respawns_.push_back({0, 0, std::move(recipe)}); }
  void respawn_due() noexcept;
  void cancel_respawns() noexcept { respawns_.clear(); }
  /// Those that wait for their time: they are the caller's to start now.
  std::vector<Recipe> take_respawns();
  bool respawning() const noexcept { return !respawns_.empty(); }
  size_t respawns() const noexcept { return respawns_.size(); }
  /// One worker less will come back; false when none would.
  bool drop_respawn() noexcept {
    if (respawns_.empty()) return false;
    respawns_.pop_back();
    return true;
  }
  int next_turn_ms() const noexcept;

 private:
  struct Respawn {
    uint64_t due_ns;
    unsigned crashes;
    Recipe recipe;
  };
  /// What goes on although it counts as gone. It may write to its slot's page, so the slot is not given to another.
  struct Lost {
    uint32_t slot;
    std::unique_ptr<Life> life;
    EventLoop::Token token;
    uint64_t look_ns = 0;  ///< when to see again if it can be reaped; 0: we hear of its end
  };
  std::optional<uint32_t> free_slot() const noexcept;
  std::optional<unsigned> next_cpu() noexcept;
  Result<std::unique_ptr<Life>> launch(std::unique_ptr<WorkerRecord>& record, UniqueFd channel, const Recipe& recipe) noexcept;
  Result<void> watch(WorkerRecord& worker) noexcept;
  void dismiss(WorkerRecord& worker) noexcept;
  void remember_lost(WorkerRecord& worker) noexcept;
  void forget_lost(uint32_t slot) noexcept;
  bool is_over(WorkerRecord& worker) noexcept;
  void reap_lost() noexcept;

  Options& options_;
  Surroundings& around_;
  std::vector<std::unique_ptr<WorkerRecord>> workers_;
  std::vector<Lost> lost_;
  std::vector<Respawn> respawns_;
  uint32_t last_id_ = 0;
  size_t last_cpu_ = 0;     // its place in Options::pin_cpus, and one more
  sigset_t worker_mask_{};  // the signal mask of before we blocked any
};

}  // namespace lb
