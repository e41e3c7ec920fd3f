// SPDX-License-Identifier: MIT
#include "upgradable.hh"

#include <sys/socket.h>

#include <chrono>
#include <fstream>

namespace lb::test {
namespace {

constexpr std::chrono::milliseconds kShort{2000};  // the deadline of an upgrade that is to miss it

int be_primary(Board& board, const std::string& endpoint) {
  const bool next = std::getenv("LB_UPGRADE_FD") != nullptr;
  const auto how = next ? static_cast<Behaviour>(board.flag[kNext].load()) : kGood;
  board.flag[kPid] = static_cast<uint32_t>(::getpid());
  ++board.flag[kPrimaries];
  if (next && board.flag[kNextPolicy] != 0) ::setenv("LB_SCHED_POLICY", kPolicies[board.flag[kNextPolicy] - 1], 1);
  if (how == kExits) return 1;
  if (how == kHangs) {
    for (;;) ::pause();
  }
  if (how == kSpeaksAnother) {
    const char message[256] = {99};  // the version comes first
    (void)!::send(std::atoi(std::getenv("LB_UPGRADE_FD")), message, sizeof message, 0);
    for (;;) ::pause();
  }
  Options options;
  options.workers = how == kIsSmall ? 1 : kUpgradeWorkers;
  if (how == kIsSmall) options.workers_max = 1;
  if (board.flag[kDrops] != 0) options.privileges = Options::Privileges::all_drop;
  if (!next && board.flag[kCuts] != 0) options.drain_deadline = std::chrono::milliseconds(50);
  if (board.flag[kNext] == kHangs) options.upgrade_deadline = kShort;
  options.on_event = [&board, how](const Event& event) {
    if (event.kind == Event::Kind::took_over) ++board.flag[kTookOver];
    if (event.kind == Event::Kind::upgrade_failed) ++board.flag[kFailed];
    if (event.kind == Event::Kind::listening && how == kAborts) ::kill(::getpid(), SIGKILL);
  };
  return lb::run(options, [&, how](Worker& worker) {
    if (how == kWorkerFails && worker.id() == 2) return 9;
    if (next) ++board.flag[kAsking];
    while (how == kIsSlow && worker.id() == 2 && board.flag[kLetGo] == 0) ::usleep(1000);
    auto listener = worker.listen(endpoint);
    if (!listener && how == kIsSmall) return 9;
    if (!listener && (how != kGood || listener.error().code == ESHUTDOWN)) return 0;  // killed while it asks; it came too late
    if (!listener) return board.fail(listener.error().message());
    return answer_all(worker, *listener, Style::watch, board);
  });
}

}  // namespace

const PrimaryProgram kUpgradable("upgradable", be_primary);

std::vector<pid_t> children(pid_t of, pid_t but) {
  std::vector<pid_t> all;
  std::ifstream file("/proc/" + std::to_string(of) + "/task/" + std::to_string(of) + "/children");
  for (pid_t pid = 0; file >> pid;)
    if (pid != but) all.push_back(pid);
  return all;
}

}  // namespace lb::test
