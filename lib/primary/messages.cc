// SPDX-License-Identifier: MIT
// The user's messages, at the primary's end.
#include "primary/cluster_impl.hh"
#include "sys/error.hh"

namespace lb {
namespace {

constexpr int kUserMessagesInTurnMax =
    16;  // from one worker, so that none can keep the primary busy; the rest waits for the next turn
constexpr int kLastMessagesMax = 100'000;  // of a worker that has exited; more than a channel can hold

}  // namespace

Result<void> Cluster::Impl::send(uint32_t id, std::span<const std::byte> bytes, int fd) noexcept {
  WorkerRecord* worker = supervisor_->find(id);
  if (worker == nullptr || worker->exited) return error_naming(ESRCH, "send to worker " + std::to_string(id));
  if (!worker->messages) return Error{EPIPE, "send: the other side is gone"};
  return send_user_message(worker->messages.get(), bytes, fd);
}

/// `all`: the worker is gone, and what it said last comes before the news of its exit.
void Cluster::Impl::receive_messages(WorkerRecord& worker, bool all) noexcept {
  if (!options_.on_message) return;
  const int most = all ? kLastMessagesMax : kUserMessagesInTurnMax;
  for (int i = 0; i < most && worker.messages; ++i) {
    const auto got = inbox_.receive(worker.messages.get(), [&](UserMessage& message) { options_.on_message(worker.id, message); });
    if (got && *got == UserInbox::State::received) continue;
    if (got && *got == UserInbox::State::nothing) return;
    if (!got) {  // it broke the protocol
      supervisor_->kill(worker);
      supervisor_->cut_channel(worker);
    }
    return supervisor_->cut_messages(worker);
  }
}

}  // namespace lb
