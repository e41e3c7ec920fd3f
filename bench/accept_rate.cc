// SPDX-License-Identifier: MIT
// What the one queue of `shared` allows: how long a full queue lasts against 1, 2, ... processes that empty it, in ns a connection. Were
// nothing locked, twice the processes would need half the time; what does not shrink any more is what the lock is held for.
//   accept_rate [PROCESSES_MAX]
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <lb/unique_fd.hh>

namespace {

constexpr int kQueued = 2'000;
constexpr int kRounds = 15;

struct Board {
  std::atomic<int> ready;
  std::atomic<bool> go;
  std::atomic<int64_t> last_end_ns;
};

int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

/// In a process of its own. What it accepts is closed with it, when nobody counts the time any more.
[[noreturn]] void empty_queue(int listener, Board& board) {
  ++board.ready;
  while (!board.go) {
  }
  while (::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC) >= 0) {
  }
  const int64_t end_ns = now_ns();
  int64_t last = board.last_end_ns;
  while (last < end_ns && !board.last_end_ns.compare_exchange_weak(last, end_ns)) {
  }
  ::_exit(0);
}

/// ns a connection; negative when it could not be set up.
double round_of(int listener, const sockaddr_in& address, int processes, Board& board) {
  std::vector<lb::UniqueFd> clients;
  for (int i = 0; i < kQueued; ++i) {
    clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const linger reset{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(clients.back().get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (::connect(clients.back().get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return -1;
  }
  board.ready = 0;
  board.go = false;
  board.last_end_ns = 0;
  for (int i = 0; i < processes; ++i) {
    const pid_t pid = ::fork();
    if (pid == 0) empty_queue(listener, board);
    if (pid < 0) return -1;
  }
  while (board.ready < processes) ::usleep(100);
  const int64_t begin_ns = now_ns();
  board.go = true;
  while (::wait(nullptr) > 0) {
  }
  return static_cast<double>(board.last_end_ns - begin_ns) / kQueued;
}

}  // namespace

int main(int argc, char** argv) {
  const int most = argc > 1 ? std::atoi(argv[1]) : static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  const rlimit files{.rlim_cur = 2 * kQueued, .rlim_max = 1 << 16};
  ::setrlimit(RLIMIT_NOFILE, &files);
  void* memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  const lb::UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (memory == MAP_FAILED || ::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::listen(listener.get(), kQueued + 1) != 0 ||
      ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
    return std::perror("accept_rate"), 1;
  for (int processes = 1; processes <= most; ++processes) {
    std::vector<double> rounds;
    for (int i = 0; i < kRounds; ++i) rounds.push_back(round_of(listener.get(), address, processes, *static_cast<Board*>(memory)));
    std::sort(rounds.begin(), rounds.end());
    if (rounds.front() < 0) return std::fprintf(stderr, "accept_rate: no %d connections (net.core.somaxconn?)\n", kQueued), 1;
    std::printf("%2d processes: %5.0f ns a connection (%.0f to %.0f)\n", processes, rounds[kRounds / 2], rounds.front(),
                rounds.back());
  }
  return 0;
}
