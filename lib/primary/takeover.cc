// SPDX-License-Identifier: MIT
// A new primary takes over from the one that executed it (upgrade.cc). Its workers start and ask for their endpoints; the answers wait
// until as many of them have come so far as listen over there. So nothing is touched by a program that does not even start.
#include <algorithm>

#include "primary/cluster_impl.hh"
#include "sys/error.hh"

namespace lb {
namespace {

using Stage = Predecessor::Stage;

constexpr uint64_t kSettle_ns = 1'000'000'000;  // what no worker has asked for by then is not asked for any more

}  // namespace

Result<void> Cluster::Impl::meet_predecessor() noexcept {
  auto found = Predecessor::from_environment();
  if (!found) return found.error();
  if (!*found) return {};
  predecessor_ = std::move(*found);
  predecessor_->news_ns = now_ns();
  auto token = loop_->watch(predecessor_->channel().fd(), [this] { hear_predecessor(); });
  if (!token) return token.error();
  predecessor_->token = *token;
  listeners_->inherit_by([this](const std::string& key) { return predecessor_ ? predecessor_->find(key) : nullptr; });
  return {};
}

void Cluster::Impl::hear_predecessor() noexcept {
  Message message;
  Packet packet;
  for (;;) {
    auto received = predecessor_->channel().receive(message, packet, payload_);
    if (received && packet.state == Packet::State::nothing) return;
    if (!received) return report_unfit(received.error().message());
    if (packet.state == Packet::State::closed) break;
    if (auto good = predecessor_->act_on(message, packet, {payload_.data(), message.payload_length}); !good) {
      report_unfit(good.error().message());
      return;
    }
    if (message.act != Act::told && message.act != Act::yours) continue;
    if (auto scaled = inherit_scale(); !scaled) return report_unfit(scaled.error().message());
    answer_withheld();
  }
  loop_->cancel(predecessor_->token);
  predecessor_->channel().close();
  if (predecessor_->stage == Stage::served) return forget_predecessor();
  predecessor_->gone();  // by no plan of ours: what it has told is ours
  answer_withheld();
}

/// True for a question whose answer has to wait.
bool Cluster::Impl::withholds(const Message& question) const noexcept try {
  if (successor_) return successor_->stage == Successor::Stage::taking_over;
  if (!predecessor_ || predecessor_->stage >= Stage::taking) return false;
  if (predecessor_->stage == Stage::hearing) return true;
  const auto asked = ListenQuery::unpack(question);
  return asked && !asked->options.exclusive && predecessor_->knows(Listeners::key_of(*asked));
} catch (...) {
  return false;
}

/// False when the worker has asked already: it does not wait for answers.
bool Cluster::Impl::withhold(const WorkerRecord& worker, const Message& question) noexcept try {
  if (has_asked(worker)) return false;
  withheld_.push_back({worker.id, question, {payload_.data(), question.payload_length}});
  if (predecessor_) predecessor_->news_ns = now_ns();
  return true;
} catch (...) {
  return false;
}

bool Cluster::Impl::has_asked(const WorkerRecord& worker) const noexcept {
  return std::any_of(withheld_.begin(), withheld_.end(), [&](const Withheld& one) { return one.worker == worker.id; });
}

/// Those of which it is known by now what to say. What may not be taken yet is not, though all has been told.
void Cluster::Impl::answer_withheld() noexcept {
  for (Withheld& one : std::exchange(withheld_, {})) {
    WorkerRecord* worker = supervisor_->find(one.worker);
    if (worker == nullptr || !worker->channel) continue;
    if (phase_ == Phase::serving && withholds(one.question)) {
      withheld_.push_back(std::move(one));
      continue;
    }
    std::copy(one.payload.begin(), one.payload.end(), payload_.begin());
    answer_query(*worker, one.question);
  }
}

/// The phase is no longer `serving`, so the answer is no.
void Cluster::Impl::refuse_withheld() noexcept { answer_withheld(); }

/// As many workers as listen over there, or all that there are to be here.
bool Cluster::Impl::come_so_far(bool listening) const noexcept {
  unsigned far = 0;
  unsigned all = supervisor_->respawning() ? 1 : 0;
  for (const auto& worker : supervisor_->workers()) {
    if (worker->deadline_ns != 0 || worker->exited) continue;
    ++all;
    far += worker->state == WorkerState::listening || (!listening && has_asked(*worker)) ? 1 : 0;
  }
  const unsigned wanted = predecessor_->staff().listening == 0 ? all : std::min(all, predecessor_->staff().listening);
  return far != 0 && far >= wanted;
}

void Cluster::Impl::advance_takeover() noexcept {
  if (!predecessor_ || phase_ != Phase::serving || predecessor_->stage == Stage::served) return;
  if (failed_ && predecessor_->channel()) return report_unfit("a worker of it failed as it started");
  if (predecessor_->stage == Stage::waiting && come_so_far(false)) {
    Message ready;
    ready.act = Act::ready;
    if (predecessor_->channel().send(ready)) predecessor_->stage = Stage::asked;
  }
  if (predecessor_->stage != Stage::taking || !come_so_far(true)) return;
  const auto heirlooms = predecessor_->heirlooms();
  const bool all = std::all_of(heirlooms.begin(), heirlooms.end(), [&](const auto& each) {
    return listeners_->serves(*each.second) || (!each.second->claimed && now_ns() - predecessor_->news_ns >= kSettle_ns);
  });
  if (all) take_over();
}

/// What somebody has set there goes on here. Not before there is a worker to have more of.
Result<void> Cluster::Impl::inherit_scale() noexcept {
  const unsigned workers = predecessor_->staff().scaled_to;
  if (workers == 0 || !last_recipe_ || std::exchange(predecessor_->scaled, true)) return {};
  return scale(workers);
}

/// The oldest worker here gets the oldest one's there, and so on; one that the program has weighed itself keeps that.
void Cluster::Impl::inherit_weights() noexcept {
  const auto& weights = predecessor_->staff().weights;
  size_t i = 0;
  for (const auto& worker : supervisor_->workers()) {
    if (worker->deadline_ns != 0 || worker->exited) continue;
    if (i == weights.size()) return;
    if (worker->recipe.weight == 1 && weights[i] > 1) (void)set_weight(worker->id, weights[i]);
    ++i;
  }
}

/// From now on it is as if there had never been another; but for the admin socket, which the other one has to let go of.
void Cluster::Impl::take_over() noexcept {
  Message message;
  for (const auto& [cell, heirloom] : predecessor_->heirlooms()) {
    message.act = Act::took;
    message.endpoint = cell;
    message.value[0] = listeners_->has_group(*heirloom) ? 1 : 0;
    if (predecessor_->channel() && heirloom->claimed) (void)predecessor_->channel().send(message);
  }
  (void)inherit_scale();
  inherit_weights();
  message.act = Act::serving;
  if (predecessor_->channel()) (void)predecessor_->channel().send(message);
  listeners_->own();
  listeners_->inherit_by({});
  predecessor_->stage = Stage::served;
  if (!predecessor_->channel()) forget_predecessor();
}

void Cluster::Impl::forget_predecessor() noexcept {
  predecessor_.reset();
  Event event;
  event.kind = Event::Kind::took_over;
  if (auto opened = open_admin_socket(); !opened) event.reason = opened.error().op;
  if (options_.on_event) options_.on_event(event);
}

/// We are to end before that: what we have from it is still its own, and it goes on.
void Cluster::Impl::give_back() noexcept {
  std::map<uint32_t, bool> all;
  for (const auto& [cell, heirloom] : predecessor_->heirlooms())
    if (heirloom->claimed) all[heirloom->cell] = true;
  to_others_ = true;
  listeners_->lend();
  listeners_->leave_to_others(all);
  refuse_withheld();
}

void Cluster::Impl::report_unfit(std::string_view why) noexcept {
  Message message;
  message.act = Act::unfit;
  message.set_text(why);
  if (!predecessor_->unfit && predecessor_->channel()) predecessor_->unfit = predecessor_->channel().send(message).ok();
}

int Cluster::Impl::takeover_turn_ms() const noexcept {
  if (!predecessor_ || predecessor_->stage != Stage::taking) return -1;
  const uint64_t due = predecessor_->news_ns + kSettle_ns;
  const uint64_t now = now_ns();
  return due <= now ? -1 : static_cast<int>((due - now) / 1'000'000) + 1;
}

}  // namespace lb
