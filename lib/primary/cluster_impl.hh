// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <memory>
#include <string>

#include <lb/cluster.hh>

#include "primary/admin_socket.hh"
#include "primary/listeners.hh"
#include "primary/predecessor.hh"
#include "primary/roll.hh"
#include "primary/shed.hh"
#include "primary/slow_start.hh"
#include "primary/successor.hh"
#include "primary/supervisor.hh"
#include "sys/doorbell.hh"
#include "sys/event_loop.hh"
#include "sys/forked.hh"
#include "wire/scoreboard.hh"
#include "wire/user_channel.hh"

namespace lb {

class LB_HIDDEN Cluster::Impl {
 public:
  static Result<std::unique_ptr<Impl>> create(Options options) noexcept;
  ~Impl();

  Result<uint32_t> spawn(Recipe recipe) noexcept;
  Result<Worker> join() noexcept;
  /// One turn; `run` goes straight into the next.
  Result<void> turn(std::chrono::milliseconds timeout) noexcept;
  /// For a caller with an event loop of its own; from then on each poll prepares for it.
  int fd() noexcept {
    polled_ = true;
    prepare_to_be_polled();
    return loop_->fd();
  }
  bool polled() const noexcept { return polled_; }
  /// What was asked for outside a poll is done in the next one: makes fd() readable.
  void wake_poller() noexcept;
  /// Before the caller waits on fd() by itself: workers must ring from now on, and what is due later must wake it.
  void prepare_to_be_polled() noexcept;
  EventLoop& loop() noexcept { return *loop_; }
  /// Calls back with each signal that `signals`, a signalfd(2), takes.
  Result<void> watch_signals(UniqueFd signals, std::function<void(int signal)> on_signal) noexcept;
  Result<void> set_blob(std::string_view endpoint, std::string_view blob) noexcept;
  Result<void> send(uint32_t id, std::span<const std::byte> bytes, int fd) noexcept;
  Result<void> drain(uint32_t id, std::chrono::milliseconds deadline) noexcept;
  Result<void> kill(uint32_t id, int signal) noexcept;
  Result<void> set_weight(uint32_t id, uint16_t weight) noexcept;
  Result<void> roll(RollOptions options) noexcept;
  Result<void> set_policy(const Policy& policy, const Endpoint* only) noexcept;
  Result<void> scale(unsigned workers) noexcept;
  Result<void> upgrade(Command command) noexcept;
  const WorkerRecord* find(uint32_t id) const noexcept { return const_cast<Supervisor&>(*supervisor_).find(id); }
  bool ever_had(uint32_t id) const noexcept { return id != 0 && id <= supervisor_->last_id(); }
  const Options& options() const noexcept { return options_; }
  void shutdown() noexcept;
  void kill() noexcept;
  bool done() const noexcept;
  int exit_code() const noexcept { return failed_ ? 1 : 0; }
  Status status() const;
  std::vector<WorkerStatus> workers() const;

 private:
  /// How far a shutdown has come.
  enum class Phase {
    serving,
    closing,   ///< new clients are turned away; those that got in are reaching the workers
    draining,  ///< the workers finish
  };

  explicit Impl(Options options) noexcept : options_(std::move(options)) {}
  Result<void> open(bool strict) noexcept;
  void abandon() noexcept;
  /// In a child that the program forked by itself what we have mapped is not there.
  bool elsewhere() const noexcept { return fork_depth() != made_at_; }

  void receive(WorkerRecord& worker) noexcept;
  void receive_messages(WorkerRecord& worker, bool all = false) noexcept;
  bool act_on(WorkerRecord& worker, const Message& message) noexcept;
  void answer_query(WorkerRecord& worker, const Message& question) noexcept;
  void start_drain(WorkerRecord& worker, bool all, std::chrono::milliseconds deadline) noexcept;
  void tell_drains() noexcept;
  void end_cut_off() noexcept;
  void bury_departed() noexcept;
  void disconnect(WorkerRecord& worker) noexcept;
  bool as_meant(const WorkerRecord& worker, const ExitStatus& status) const noexcept;
  void tell_spawned() noexcept;
  Result<void> read_policy_again(const std::vector<std::string>& env);
  void begin_roll() noexcept;
  void advance_roll() noexcept;
  void look_at_steps() noexcept;
  bool start_step() noexcept;
  void end_roll(std::string reason) noexcept;
  void count_roll() noexcept;
  bool outdated(const WorkerRecord& worker) const noexcept;
  bool to_be_replaced(const WorkerRecord& worker) const noexcept;
  bool recovering() const noexcept;
  bool draining_any() const noexcept;
  int roll_turn_ms() const noexcept;
  void advance_scale() noexcept;
  WorkerRecord* to_leave() noexcept;
  int scale_turn_ms() const noexcept;
  bool lost_in_roll(const WorkerRecord& worker, const ExitStatus& status, bool expected) noexcept;
  void tell_roll(Event::Kind kind, const WorkerRecord* fresh = nullptr, uint32_t replaced = 0) noexcept;
  void bequeath(Act last) noexcept;
  void hear_successor() noexcept;
  void act_on_successor(const Message& message) noexcept;
  void hand_over() noexcept;
  void end_upgrade(std::string why) noexcept;
  std::unique_ptr<Life> forget_successor() noexcept;
  void advance_upgrade() noexcept;
  int upgrade_turn_ms() const noexcept;
  void tell_upgrade(Event::Kind kind) noexcept;
  Result<void> meet_predecessor() noexcept;
  void hear_predecessor() noexcept;
  bool withholds(const Message& question) const noexcept;
  bool withhold(const WorkerRecord& worker, const Message& question) noexcept;
  bool has_asked(const WorkerRecord& worker) const noexcept;
  void answer_withheld() noexcept;
  void refuse_withheld() noexcept;
  bool come_so_far(bool listening) const noexcept;
  void advance_takeover() noexcept;
  void take_over() noexcept;
  Result<void> inherit_scale() noexcept;
  void inherit_weights() noexcept;
  void forget_predecessor() noexcept;
  void give_back() noexcept;
  void report_unfit(std::string_view why) noexcept;
  int takeover_turn_ms() const noexcept;
  void advance_shutdown() noexcept;
  void report(uint32_t cell, Event::Kind kind) noexcept;
  Result<void> drop_when_started() noexcept;
  int next_turn_ms() const noexcept;
  Result<void> open_admin_socket() noexcept;
  std::string administer(std::string_view line);
  std::string tell_status() const;
  std::string admit_drain(const AdminRequest& request);
  std::string admit_roll(const AdminRequest& request);
  std::string admit_scale(const AdminRequest& request);
  std::string admit_upgrade();
  std::string admit_policy(const AdminRequest& request);
  void emit(Event::Kind kind, WorkerRecord& worker, Event event = {}) noexcept;

  const unsigned made_at_ = fork_depth();
  Options options_;
  Policy policy_;  // as the environment or the options last said
  std::string loop_reason_;
  Doorbell doorbell_;
  std::array<char, Message::kPayloadMax> payload_;  // of the control message at hand
  UserInbox inbox_;
  UniqueFd signals_;
  std::unique_ptr<EventLoop> loop_;
  Scoreboard scoreboard_;
  InheritedSockets inherited_;
  std::optional<Surroundings> around_;
  std::optional<Supervisor> supervisor_;
  std::optional<Listeners> listeners_;
  std::optional<SlowStart> slow_start_;
  std::optional<Shed> shed_;
  std::unique_ptr<AdminSocket> admin_;                           // null: nobody asked for one
  std::shared_ptr<Impl*> self_ = std::make_shared<Impl*>(this);  // for who may outlive us: null once we are gone
  UniqueFd alarm_;                                               // timerfd: wakes a caller who waits on fd()
  bool alarm_set_ = false;
  bool polled_ = false;
  Phase phase_ = Phase::serving;
  uint32_t generation_ = 1;  // of the workers that are started
  Roll roll_;
  std::optional<Recipe> last_recipe_;  // what `scale` spawns more of
  unsigned scaled_to_ = 0;             // the last that `scale` was asked for; 0: none
  std::optional<unsigned> scale_to_;   // until it is so
  std::string scale_trouble_;          // why it is not yet
  uint64_t scale_again_ns_ = 0;
  std::optional<Successor> successor_;      // an upgrade is under way, from us
  std::optional<Predecessor> predecessor_;  // the same, to us
  UpgradeStatus upgrade_;
  struct Withheld {
    uint32_t worker;
    Message question;
    std::string payload;
  };
  std::vector<Withheld> withheld_;  // questions for endpoints that are changing hands
  bool to_others_ = false;          // who goes on with our queues, as we leave
  uint64_t closing_since_ns_ = 0;
  bool ever_listened_ = false;
  bool failed_ = false;
  bool abandoned_ = false;
  bool dropped_ = false;  // the primary's capabilities
};

}  // namespace lb
