// SPDX-License-Identifier: MIT
#include "ledger.hh"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

namespace lbbench {
namespace {

constexpr uint64_t kSeenWithinNs = 2'000'000'000;  // a client on a busy machine is told late

void count(Lost& lost, Outcome outcome) {
  if (outcome == Outcome::refused) {
    ++lost.refused;
  } else if (outcome == Outcome::timeout) {
    ++lost.timeout;
  } else {
    ++lost.reset;
  }
}

/// Deaths inside the call for a connection, each of which explains one loss.
class Excuses {
 public:
  explicit Excuses(std::span<const WorkerLine> workers) {
    for (const auto& worker : workers)
      if (worker.killed_ns != 0 && worker.taking != 0) deaths_ns_.push_back(worker.killed_ns);
    std::ranges::sort(deaths_ns_);
  }

  bool take(uint64_t loss_ns) {
    const auto found = std::ranges::find_if(
        deaths_ns_, [=](uint64_t death_ns) { return death_ns <= loss_ns && loss_ns - death_ns < kSeenWithinNs; });
    if (found == deaths_ns_.end()) return false;
    deaths_ns_.erase(found);
    return true;
  }

 private:
  std::vector<uint64_t> deaths_ns_;
};

}  // namespace

void Ledger::took(int fd, uint32_t id) {
  sockaddr_in peer{};
  socklen_t size = sizeof peer;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return;  // it has gone
  if (peer.sin_addr.s_addr != htonl(INADDR_LOOPBACK)) return;
  if (taker[ntohs(peer.sin_port)].exchange(id) != 0) ++taken_twice;
}

void Ledger::lose(const Loss& loss) {
  const uint32_t index = loss_count++;
  if (index < kLossesMax) losses[index] = loss;
}

std::span<const Loss> Ledger::all_losses() const { return {losses.data(), std::min<size_t>(loss_count, kLossesMax)}; }

Account account(std::span<const Loss> losses, std::span<const WorkerLine> workers) {
  Account result;
  Excuses excuses(workers);
  std::vector<Loss> by_time(losses.begin(), losses.end());
  std::ranges::sort(by_time, {}, &Loss::at_ns);  // each takes the earliest excuse, so that the next has a chance
  for (const auto& loss : by_time) {
    const uint64_t killed_ns = loss.worker < workers.size() ? workers[loss.worker].killed_ns.load() : 0;
    const bool broken = loss.outcome == Outcome::reset;
    if (broken && loss.worker != 0 && killed_ns != 0 && killed_ns <= loss.at_ns) {
      ++result.with_worker;
    } else if (broken && loss.worker == 0 && excuses.take(loss.at_ns)) {
      ++result.in_accept;
    } else {
      count(result.lost, loss.outcome);
      result.faults.push_back(loss);
    }
  }
  return result;
}

}  // namespace lbbench
