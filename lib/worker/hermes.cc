// SPDX-License-Identifier: MIT
// hermes: the workers' part; the kernel's, and where this is from, is in bpf/hermes.bpf.h. Each time that a worker comes for connections
// it publishes the paper's three figures (when it came, events at hand, connections) and judges all workers of its 64 slots by theirs:
// the time filter drops who has not come for long; of the others the connection filter, and then the event filter, keep those
// below the average + theta.
//
// What is our own: the paper's workers wake every few milliseconds to enter their loops anew. Ours sleep without end when there is
// nothing to do, so who rests is alive, until a connection that was meant for it has waited for too long. And an event loop that is not ours
// shows itself only as it asks for connections: events are the connection that it has just taken, those that wait behind it, and
// what the program reports (Worker::report_load). A verdict is made with each connection taken and with each rest, so it is as old as
// the last change that any worker has told of, and needs no timer.
#include "worker/hermes.hh"

#include <array>
#include <utility>

#include "sys/process.hh"

namespace lb {
namespace {

constexpr uint64_t kHung_ns = 120'000'000;  // as the selection program has it: bpf/hung.bpf.h
constexpr Ticks kHung = kHung_ns >> 10;

struct Considered {
  uint32_t slot;
  uint32_t connections;
  uint32_t events;
};

/// At most 64; who is dropped makes place for the last, as order means nothing.
class Candidates {
 public:
  void add(const Considered& candidate) noexcept { each_[count_++] = candidate; }

  /// Keeps those whose figure is below the average + theta, where theta is half the average; all of them where all are 0.
  void keep_below_average(uint32_t Considered::*figure) noexcept {
    uint64_t sum = 0;
    for (size_t i = 0; i < count_; ++i) sum += each_[i].*figure;
    if (sum == 0) return;
    const uint64_t count = count_;
    for (size_t i = 0; i < count_;) {
      if (2 * count * (each_[i].*figure) < 3 * sum)
        ++i;
      else
        each_[i] = each_[--count_];
    }
  }

  uint64_t bits() const noexcept {
    uint64_t bits = 0;
    for (size_t i = 0; i < count_; ++i) bits |= uint64_t{1} << (each_[i].slot % 64);
    return bits;
  }

 private:
  std::array<Considered, 64> each_;
  size_t count_ = 0;
};

/// The time filter. Who has not come since hermes was chosen may be asleep since before.
bool alive(const lb_hermes& its, const SlotQueues& queues, uint32_t slot, uint64_t now_ns) noexcept {
  const uint64_t entered_ns = atomic(its.entered_ns).load(std::memory_order_relaxed);
  if (entered_ns != 0 && atomic(its.rests).load(std::memory_order_relaxed) == 0)
    return static_cast<int64_t>(now_ns - entered_ns) < static_cast<int64_t>(kHung_ns);
  const int32_t pending = queues.pending(slot);
  return pending <= 0 || queues.age_of_oldest(slot, pending, static_cast<Ticks>(now_ns >> 10)) < kHung;
}

}  // namespace

uint64_t hermes_verdict(const Scoreboard& board, const SlotQueues& queues, uint32_t first, uint64_t now_ns) noexcept {
  Candidates candidates;
  for (uint32_t slot = first; slot < std::min(first + 64, board.slots()); ++slot) {
    const lb_worker_page& page = board.page(slot);
    if (atomic(page.heartbeat).load(std::memory_order_relaxed) == 0 || board.leaving(slot)) continue;
    if (!alive(page.hermes, queues, slot, now_ns)) continue;
    candidates.add({slot, in_flight_of(page), atomic(page.hermes.events).load(std::memory_order_relaxed)});
  }
  candidates.keep_below_average(&Considered::connections);
  candidates.keep_below_average(&Considered::events);
  return candidates.bits();
}

void Hermes::took() noexcept {
  const int32_t behind = queues_.pending(place_.slot);
  enter(1 + static_cast<uint32_t>(std::max(0, behind)), false);
}

void Hermes::rests() noexcept { enter(0, true); }

void Hermes::leave() noexcept {
  if (!std::exchange(takes_part_, false)) return;
  lb_hermes& own = place_.page().hermes;
  for (__u64* field : {&own.entered_ns, &own.decided_ns}) atomic(*field).store(0, std::memory_order_relaxed);
  atomic(own.events).store(0, std::memory_order_relaxed);
}

void Hermes::enter(uint32_t events, bool rests) noexcept {
  lb_worker_page& page = place_.page();
  lb_hermes& own = page.hermes;
  const uint64_t now = now_ns();
  takes_part_ = true;
  events += atomic(page.reported).load(std::memory_order_relaxed);
  atomic(own.entered_ns).store(now, std::memory_order_relaxed);
  atomic(own.events).store(events, std::memory_order_relaxed);
  atomic(own.rests).store(rests ? 1 : 0, std::memory_order_relaxed);
  atomic(own.passed).store(hermes_verdict(place_.board, queues_, place_.slot & ~63U, now), std::memory_order_relaxed);
  atomic(own.decided_ns).store(now, std::memory_order_release);
}

}  // namespace lb
