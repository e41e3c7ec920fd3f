// SPDX-License-Identifier: MIT
#include "fault_load.hh"

#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <lb/unique_fd.hh>
#include <random>
#include <vector>

#include "clock.hh"
#include "protocol.hh"

namespace lbbench {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kTimeoutNs = 15'000 * kMs;  // longer than any fault lasts
constexpr uint64_t kRestNs = 4 * kMs;          // at most, between a client's connections
constexpr uint64_t kServiceNs = 200'000;
constexpr unsigned kHeldRequests = 4;
constexpr int kEventsMax = 64;
constexpr uint32_t kRudeAddress = INADDR_LOOPBACK + 1;

enum class Manners {
  brief,        ///< asks once
  lasting,      ///< asks now and then
  resets,       ///< goes, with RST, as soon as it has connected
  half_asks,    ///< sends half a request, and goes later
  half_closes,  ///< the same, and lets the server know at once that nothing more comes
  deaf          ///< never hears the answer to its SYN, so that its handshake stays half-way
};

struct Client {
  lb::UniqueFd fd;
  Manners manners{};
  uint16_t port = 0;
  uint64_t begun_ns = 0;
  uint64_t due_ns = 0;  ///< when to begin, ask or go
  unsigned requests_left = 0;
  bool sent = false;
  bool closing = false;  ///< all answers are there; waits for the server's FIN
  size_t have = 0;
  Answer answer{};

  bool rude() const { return manners >= Manners::resets; }
};

class FaultLoad {
 public:
  explicit FaultLoad(const FaultLoadPlan& plan)
      : plan_(plan), ledger_(*plan.ledger), random_(plan.seed), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    clients_.resize(plan.clients);
  }

  int run() {
    if (!epoll_) return 1;
    while (true) {
      const bool stop = ledger_.stop;
      uint64_t next_ns = now_ns() + 100 * kMs;
      bool any = false;
      for (auto& client : clients_) {
        look_after(client, stop);
        any |= bool(client.fd);
        if (client.due_ns != 0 && (client.fd || !stop)) next_ns = std::min(next_ns, client.due_ns);
      }
      if (stop && !any) return 0;
      const uint64_t now = now_ns();
      const timespec timeout = to_timespec(next_ns > now ? next_ns - now : 0);
      std::array<epoll_event, kEventsMax> events;
      const int n = epoll_pwait2(epoll_.get(), events.data(), kEventsMax, &timeout, nullptr);
      for (int i = 0; i < n; ++i) advance(clients_[events[static_cast<size_t>(i)].data.u64]);
    }
  }

 private:
  uint64_t below(uint64_t limit) { return random_() % limit; }

  void look_after(Client& client, bool stop) {
    const uint64_t now = now_ns();
    if (!client.fd) {
      if (!stop && client.due_ns <= now) begin(client);
      return;
    }
    if (client.due_ns != 0 && client.due_ns <= now) {
      if (client.rude()) return leave(client);
      client.due_ns = 0;
      advance(client);
    }
    if (client.fd && client.begun_ns + kTimeoutNs < now) client.rude() ? leave(client) : lose(client, Outcome::timeout);
  }

  Manners draw_manners() {
    const uint64_t draw = below(100);
    if (plan_.rude && draw < 8) return static_cast<Manners>(static_cast<uint64_t>(Manners::resets) + draw / 2);
    return draw < 16 ? Manners::lasting : Manners::brief;
  }

  void begin(Client& client) {
    client = {};
    client.manners = draw_manners();
    client.requests_left = client.manners == Manners::lasting ? kHeldRequests : 1;
    client.begun_ns = now_ns();
    if (!connect(client)) {
      ++ledger_.not_begun;
      return rest(client);
    }
    if (!client.fd) return;  // refused at once
    if (client.manners == Manners::deaf) client.due_ns = now_ns() + 1 + below(300 * kMs);
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLET, .data = {.u64 = static_cast<uint64_t>(&client - clients_.data())}};
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, client.fd.get(), &event);
    advance(client);
  }

  /// False when there is no socket or port for it. The port is known, and its line in the ledger blank, before anybody can accept it.
  bool connect(Client& client) {
    lb::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) return false;
    const linger reset{.l_onoff = 1, .l_linger = 0};  // so that no TIME_WAIT uses up the ports
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (client.manners == Manners::deaf) {
      sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
      const sock_fprog all{1, &drop};
      if (setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof all) != 0) return false;
    }
    sockaddr_in own{};
    own.sin_family = AF_INET;
    own.sin_addr.s_addr = htonl(client.rude() ? kRudeAddress : INADDR_LOOPBACK);
    socklen_t size = sizeof own;
    auto* name = reinterpret_cast<sockaddr*>(&own);
    if (bind(fd.get(), name, size) != 0 || getsockname(fd.get(), name, &size) != 0) return false;
    client.port = ntohs(own.sin_port);
    if (!client.rude()) ledger_.taker[client.port] = 0;
    sockaddr_in to = own;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(plan_.port);
    const int failed = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 ? 0 : errno;
    if (failed == EADDRNOTAVAIL) return false;
    ++ledger_.begun;
    client.fd = std::move(fd);
    if (failed != 0 && failed != EINPROGRESS) lose(client, failed == ECONNREFUSED ? Outcome::refused : Outcome::reset);
    return true;
  }

  void advance(Client& client) {
    while (client.fd && client.due_ns == 0) {
      if (!client.sent && !client.closing) {
        if (!ask(client)) return;
      } else if (!read(client)) {
        return;
      }
    }
  }

  /// False when nothing more is to do now.
  bool ask(Client& client) {
    const Request request{.service_ns = kServiceNs, .last = client.requests_left == 1 ? 1U : 0U};
    const size_t size = client.rude() ? sizeof request / 2 : sizeof request;
    const ssize_t n = send(client.fd.get(), &request, client.manners == Manners::resets ? 0 : size, MSG_NOSIGNAL);
    if (n < 0) {
      const int error = errno;
      if (error != EAGAIN && error != EINPROGRESS && error != ENOTCONN) lose(client, outcome_of(error));
      return false;
    }
    client.sent = true;
    if (client.manners == Manners::half_closes) shutdown(client.fd.get(), SHUT_WR);
    if (client.rude()) client.due_ns = now_ns() + (client.manners == Manners::resets ? 1 : below(100 * kMs));
    return true;
  }

  static Outcome outcome_of(int error) {
    if (error == ECONNREFUSED) return Outcome::refused;
    return error == ETIMEDOUT ? Outcome::timeout : Outcome::reset;
  }

  bool read(Client& client) {
    auto* to = reinterpret_cast<char*>(&client.answer) + client.have;
    const ssize_t n = recv(client.fd.get(), to, sizeof client.answer - client.have, 0);
    if (n < 0 && errno == EINTR) return true;
    if (n < 0 && errno == EAGAIN) return false;
    if (n <= 0) {
      if (client.closing) {
        complete(client);
      } else {
        lose(client, n == 0 ? Outcome::reset : outcome_of(errno));
      }
      return false;
    }
    client.have += static_cast<size_t>(n);
    if (client.have < sizeof client.answer) return true;
    client.have = 0;
    client.sent = false;
    client.closing = --client.requests_left == 0;
    if (!client.closing) client.due_ns = now_ns() + below(50 * kMs);
    return true;
  }

  void complete(Client& client) {
    if (client.manners == Manners::brief && !plan_.latencies_ns.empty()) {
      const size_t capacity = plan_.latencies_ns.size();
      const uint64_t index = briefs_ < capacity ? briefs_ : below(capacity);
      plan_.latencies_ns[index] = now_ns() - client.begun_ns;
      ++briefs_;
    }
    ++ledger_.completed;
    rest(client);
  }

  void lose(Client& client, Outcome why) {
    if (client.rude() && why != Outcome::refused) return leave(client);
    const uint32_t worker = client.rude() ? 0 : ledger_.taker[client.port].load();
    ledger_.lose({.at_ns = now_ns(), .worker = worker, .outcome = why, .begun_ns = client.begun_ns});
    rest(client);
  }

  void leave(Client& client) {
    ++ledger_.left;
    rest(client);
  }

  void rest(Client& client) {
    client.fd.reset();
    client.due_ns = now_ns() + below(kRestNs);
  }

  const FaultLoadPlan plan_;
  Ledger& ledger_;
  std::mt19937_64 random_;
  lb::UniqueFd epoll_;
  std::vector<Client> clients_;
  uint64_t briefs_ = 0;
};

}  // namespace

int run_fault_load(const FaultLoadPlan& plan) { return FaultLoad(plan).run(); }

}  // namespace lbbench
