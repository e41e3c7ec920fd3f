// SPDX-License-Identifier: MIT
// A primary hands over to a new one that it has executed. Until the new one's workers listen, everything can be taken back, and is,
// whatever becomes of the new one; then our workers finish what they hold, and we leave. How the new one sees it: takeover.cc.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "primary/cluster_impl.hh"
#include "sys/error.hh"
#include "sys/notify.hh"
#include "sys/process.hh"

namespace lb {
namespace {

constexpr int kOwing_ms = 5;    // the new one does not read so fast
constexpr int kKill_ms = 1000;  // patience with the kernel until a process that was killed is no more
constexpr int kSuccessorMessagesInTurnMax = 256;

/// What this process was started with, without argv[0].
Result<std::vector<std::string>> own_arguments() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  if (!file) return last_error("upgrade: /proc/self/cmdline, for this process's arguments (the Command may name some)");
  const std::string all{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::string> arguments;
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.find('\0', at), all.size());
    arguments.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  if (!arguments.empty()) arguments.erase(arguments.begin());
  return arguments;
}

std::string describe(const ExitStatus& status) {
  if (status.signal != 0) return "signal " + std::to_string(status.signal) + " ended it";
  return "it exited with code " + std::to_string(status.code);
}

}  // namespace

Result<void> Cluster::Impl::upgrade(Command command) noexcept try {
  if (phase_ != Phase::serving) return Error{ESHUTDOWN, "upgrade: the cluster shuts down"};
  if (successor_) return error_naming(EALREADY, "upgrade: pid " + std::to_string(successor_->life().pid()) + " is taking over");
  if (predecessor_) return Error{EALREADY, "upgrade: this primary is itself still taking over from the one before"};
  if (roll_.active || roll_.next) return Error{EBUSY, "upgrade: a rolling restart is under way"};
  if (listeners_->changing()) return Error{EBUSY, "upgrade: a policy is changing"};
  if (::getpid() == 1)
    return Error{ENOTSUP, "upgrade: this is PID 1, whose end would take all others with it (replace the container instead)"};
  if (command.args.empty()) {
    auto own = own_arguments();
    if (!own) return own.error();
    command.args = std::move(*own);
  }
  auto ends = make_channel();
  if (!ends) return ends.error();
  Recipe recipe;
  recipe.command = std::move(command);
  auto life = execute(std::move(ends->second), kUpgradeVariable, {}, nullptr, recipe, supervisor_->worker_mask());
  if (!life) return life.error();

  successor_.emplace(std::move(*life), Channel(std::move(ends->first), Message::kHandOverVersion),
                     now_ns() + to_ns(options_.upgrade_deadline));
  upgrade_ = {UpgradeStatus::State::starting, successor_->life().pid(), ""};
  auto heard = loop_->watch(successor_->channel().fd(), [this] { hear_successor(); });
  auto exit = loop_->watch(successor_->life().exit_fd(), [this] { successor_->exited = true; });
  if (heard) successor_->channel_token = *heard;
  if (exit) successor_->exit_token = *exit;
  tell_upgrade(Event::Kind::upgrade_begun);
  if (!heard || !exit)
    end_upgrade("no room in the event loop");
  else
    bequeath(Act::told);
  return {};
} catch (...) {
  return Error{ENOMEM, "upgrade"};
}

void Cluster::Impl::bequeath(Act last) noexcept {
  Staff staff;
  staff.scaled_to = scaled_to_;
  for (const auto& worker : supervisor_->workers()) {
    if (worker->deadline_ns == 0) staff.weights.push_back(worker->recipe.weight);
    if (worker->state == WorkerState::listening) ++staff.listening;
  }
  auto all = listeners_->bequests();
  auto sent = all ? successor_->bequeath(*all, last, staff) : Result<void>(all.error());
  if (!sent) end_upgrade("it could not be told what there is: " + sent.error().message());
}

void Cluster::Impl::hear_successor() noexcept {
  Message message;
  Packet packet;
  for (int i = 0; i < kSuccessorMessagesInTurnMax && successor_; ++i) {
    auto received = successor_->channel().receive(message, packet);
    if (!received && received.error().code == EPROTONOSUPPORT)
      return end_upgrade("it speaks version " + std::to_string(message.version) +
                         " of how one primary hands over to another, this one " + std::to_string(successor_->channel().version()) +
                         "; stop this one and start the new one instead");
    if (!received || packet.fd_count != 0) return end_upgrade("it does not speak as a new primary does");
    if (packet.state == Packet::State::closed) return end_upgrade("it let go of the channel");
    if (packet.state == Packet::State::nothing) return;
    act_on_successor(message);
  }
}

void Cluster::Impl::act_on_successor(const Message& message) noexcept {
  const bool taking_over = successor_->stage == Successor::Stage::taking_over;
  switch (message.act) {
    case Act::ready:
      if (taking_over) break;
      successor_->stage = Successor::Stage::taking_over;
      upgrade_.state = UpgradeStatus::State::taking_over;
      listeners_->lend();
      return bequeath(Act::yours);
    case Act::took:
      successor_->taken[message.endpoint] = message.value[0] != 0;
      return;
    case Act::serving:
      if (!taking_over) break;
      return hand_over();
    case Act::unfit:
      return end_upgrade(std::string(message.get_text()));
    default:
      break;
  }
  end_upgrade("it does not speak as a new primary does");
}

/// There is no way back from here: the new one serves, and goes on whatever becomes of us.
void Cluster::Impl::hand_over() noexcept {
  phase_ = Phase::closing;
  closing_since_ns_ = now_ns();
  to_others_ = true;
  upgrade_.state = UpgradeStatus::State::leaving;
  listeners_->leave_to_others(successor_->taken);
  supervisor_->cancel_respawns();
  admin_.reset();  // before it hears that we have let go
  notify_service("MAINPID=" + std::to_string(upgrade_.pid));
  for (auto& worker : supervisor_->workers()) {
    worker->drain_told = false;  // who drains already: others have its queue from now on
    const bool starting = worker->state == WorkerState::spawned || worker->state == WorkerState::online;
    if (starting) start_drain(*worker, false, options_.drain_deadline);  // it comes too late, and that is no failure
  }
  (void)forget_successor();
  refuse_withheld();
  tell_upgrade(Event::Kind::upgrade_done);
}

/// The new one is no good, or we are to end. All is as it was.
void Cluster::Impl::end_upgrade(std::string why) noexcept {
  const bool reclaim = successor_->stage == Successor::Stage::taking_over;
  const bool exited = successor_->exited;
  (void)successor_->life().signal(SIGKILL);
  pollfd end{successor_->life().exit_fd(), POLLIN, 0};
  (void)::poll(&end, 1, kKill_ms);
  const auto status = successor_->life().try_reap();
  const bool withheld = status && !*status;
  if (status && *status && (exited || (*status)->signal != SIGKILL)) why = describe(**status);
  auto life = forget_successor();
  if (withheld) supervisor_->reap_later(std::move(life));
  if (reclaim) listeners_->resume();
  upgrade_.state = UpgradeStatus::State::failed;
  upgrade_.reason = std::move(why);
  tell_upgrade(Event::Kind::upgrade_failed);
  answer_withheld();
}

std::unique_ptr<Life> Cluster::Impl::forget_successor() noexcept {
  loop_->cancel(successor_->channel_token);
  loop_->cancel(successor_->exit_token);
  auto life = successor_->take_life();
  successor_.reset();
  return life;
}

void Cluster::Impl::advance_upgrade() noexcept {
  if (!successor_) return;
  if (successor_->exited) {
    hear_successor();  // why, if it said so
    if (successor_) end_upgrade("");
    return;
  }
  if (auto flushed = successor_->flush(); !flushed)
    return end_upgrade("it could not be told what there is: " + flushed.error().message());
  if (now_ns() >= successor_->deadline_ns())
    end_upgrade("it was not ready within " + std::to_string(options_.upgrade_deadline.count()) + " ms");
}

int Cluster::Impl::upgrade_turn_ms() const noexcept {
  if (!successor_) return takeover_turn_ms();
  if (successor_->owing()) return kOwing_ms;
  return ms_until(successor_->deadline_ns());
}

void Cluster::Impl::tell_upgrade(Event::Kind kind) noexcept {
  if (!options_.on_event) return;
  Event event;
  event.kind = kind;
  event.pid = upgrade_.pid;
  event.reason = upgrade_.reason.c_str();
  options_.on_event(event);
}

}  // namespace lb
