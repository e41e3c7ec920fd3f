// SPDX-License-Identifier: MIT
#include "primary/supervisor.hh"

#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <exception>

#include "sys/error.hh"
#include "wire/user_channel.hh"
#include "worker/worker_impl.hh"

namespace lb {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kStable_ns = 10'000'000'000;  // a worker that lived this long has not crashed "in a row"
constexpr milliseconds kBackoffFirst{100};
constexpr milliseconds kBackoffMax{10'000};
constexpr int kExitStartFailed = 70;  // EX_SOFTWARE, sysexits.h

int g_stop_fd = -1;  // the worker's: what its SIGTERM handler writes to

void on_sigterm(int) {
  const int saved = errno;
  const uint64_t one = 1;
  (void)!::write(g_stop_fd, &one, sizeof one);
  errno = saved;
}

/// SIGTERM drains this worker. SIGINT comes from a terminal to the whole group: the primary acts on it, a worker need not.
/// SIGPIPE would kill a worker for its client's early leave.
void set_worker_signals(int stop_fd, const sigset_t& mask) noexcept {
  g_stop_fd = stop_fd;
  struct sigaction action {};
  action.sa_flags = SA_RESTART;
  action.sa_handler = on_sigterm;
  ::sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = [](int) {};
  ::sigaction(SIGINT, &action, nullptr);
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
}

}  // namespace

Supervisor::Supervisor(Options& options, Surroundings& around) noexcept : options_(options), around_(around) {
  ::sigprocmask(SIG_SETMASK, nullptr, &worker_mask_);
}

std::optional<uint32_t> Supervisor::free_slot() const noexcept {
  for (uint32_t slot = 0; slot < around_.scoreboard.slots(); ++slot)
    if (std::none_of(workers_.begin(), workers_.end(), [=](const auto& worker) { return worker->slot == slot; })) return slot;
  return std::nullopt;
}

WorkerRecord* Supervisor::find(uint32_t id) noexcept {
  for (auto& worker : workers_)
    if (worker->id == id) return worker.get();
  return nullptr;
}

Result<WorkerRecord*> Supervisor::spawn(WorkerFunction function, unsigned crashes) noexcept {
  if (thread_count() > 1) return Error{EDEADLK, "spawn: fork in a process with more than one thread"};
  const auto slot = free_slot();
  if (!slot) return Error{ENOSPC, "spawn: every worker slot is taken"};
  auto ends = make_channel();
  if (!ends) return ends.error();
  auto messages = make_user_channel();
  if (!messages) return messages.error();

  auto record = std::make_unique<WorkerRecord>();
  WorkerRecord& worker = *record;
  worker.id = ++last_id_;
  worker.slot = *slot;
  worker.function = function;
  worker.crashes = crashes;
  worker.started_ns = now_ns();
  worker.channel = Channel(std::move(ends->first));
  worker.messages = std::move(messages->first);
  around_.scoreboard.vacate(*slot);

  Message welcome;
  welcome.act = Act::welcome;
  welcome.value[0] = *slot;
  welcome.value[1] = around_.scoreboard.slots();
  welcome.value[2] = on_user_message ? 1 : 0;
  const int fds[] = {around_.scoreboard.worker_pages_fd(), around_.scoreboard.primary_page_fd(), around_.doorbell,
                     messages->second.get()};
  if (auto sent = worker.channel.send(welcome, fds); !sent) return sent.error();
  messages->second.reset();  // it travels with the welcome

  std::fflush(nullptr);  // else the child would write out the parent's buffers a second time
  around_.loop.before_fork();
  worker.pid = ::fork();
  if (worker.pid != 0) around_.loop.after_fork();
  if (worker.pid < 0) return last_error("fork");
  if (worker.pid == 0) {
    record.reset();
    be_worker(last_id_, std::move(ends->second), std::move(function));
  }
  auto pidfd = open_pidfd(worker.pid);
  if (!pidfd) {
    ::kill(worker.pid, SIGKILL);
    ::waitpid(worker.pid, nullptr, 0);
    return pidfd.error();
  }
  worker.pidfd = std::move(*pidfd);
  auto channel = around_.loop.watch(worker.channel.fd(), [this, &worker] { on_message(worker); });
  auto exit = around_.loop.watch(worker.pidfd.get(), [&worker] { worker.exited = true; });
  if (channel) worker.channel_token = *channel;
  Result<EventLoop::Token> heard = EventLoop::Token{0};
  if (on_user_message) heard = around_.loop.watch(worker.messages.get(), [this, &worker] { on_user_message(worker); });
  if (heard) worker.messages_token = *heard;
  if (exit) worker.exit_token = *exit;
  workers_.push_back(std::move(record));
  if (!channel || !exit || !heard) {
    kill(worker);
    return !channel ? channel.error() : !exit ? exit.error() : heard.error();
  }
  return &worker;
}

void Supervisor::be_worker(uint32_t id, UniqueFd channel, WorkerFunction function) noexcept {
  // Copies of the siblings' channel ends, of listening sockets and of the loop's ring must not live on in here.
  const sigset_t mask = worker_mask_;
  const auto let_go = std::move(abandon);
  let_go();  // destroys *this

  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  set_worker_signals(stop.get(), mask);
  int code = kExitStartFailed;
  try {
    auto impl = Worker::Impl::start(id, std::move(channel), std::move(stop)).value();
    Worker::Impl& inside = *impl;
    Worker worker(std::move(impl));
    code = function(worker);
    if (code == 0 || inside.draining()) inside.announce_exit();
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "worker %u: %s\n", id, failure.what());
  } catch (...) {
    std::fprintf(stderr, "worker %u: unknown exception\n", id);
  }
  std::fflush(nullptr);
  ::_exit(code);  // atexit handlers and static destructors are the primary's to run
}

Result<void> Supervisor::tell(WorkerRecord& worker, Message& message, std::span<const int> fds, std::string_view payload) noexcept {
  if (!worker.channel) return Error{EPIPE, "control channel"};
  return worker.channel.send(message, fds, payload);
}

void Supervisor::cut_channel(WorkerRecord& worker) noexcept {
  around_.loop.cancel(worker.channel_token);
  worker.channel.close();
}

void Supervisor::cut_messages(WorkerRecord& worker) noexcept {
  if (worker.messages_token != 0) around_.loop.cancel(std::exchange(worker.messages_token, 0));
  worker.messages.reset();
}

void Supervisor::kill(WorkerRecord& worker) noexcept {
  if (worker.pidfd) (void)signal_process(worker.pidfd.get(), SIGKILL);
}

std::optional<Supervisor::Departed> Supervisor::next_departed() noexcept {
  const auto found = std::find_if(workers_.begin(), workers_.end(), [](const auto& worker) { return worker->exited; });
  if (found == workers_.end()) return std::nullopt;
  Departed departed{std::move(*found), {}};
  workers_.erase(found);
  around_.loop.cancel(departed.worker->exit_token);
  if (departed.worker->channel) cut_channel(*departed.worker);
  cut_messages(*departed.worker);
  if (auto status = reap(departed.worker->pidfd.get())) departed.status = *status;
  return departed;
}

milliseconds Supervisor::schedule_respawn(const WorkerRecord& crashed) noexcept {
  const bool stable = now_ns() - crashed.started_ns > kStable_ns;
  const unsigned crashes = stable ? 1 : crashed.crashes + 1;
  milliseconds pause{0};
  if (crashes > 1) pause = std::min(kBackoffMax, kBackoffFirst * (1U << std::min(crashes - 2, 10U)));
  respawns_.push_back({now_ns() + static_cast<uint64_t>(pause.count()) * 1'000'000, crashes, crashed.function});
  return pause;
}

void Supervisor::respawn_due() noexcept {
  for (size_t i = 0; i < respawns_.size();) {
    if (now_ns() < respawns_[i].due_ns) {
      ++i;
      continue;
    }
    Respawn due = std::move(respawns_[i]);
    respawns_.erase(respawns_.begin() + static_cast<std::ptrdiff_t>(i));
    if (spawn(due.function, due.crashes)) continue;
    due.due_ns = now_ns() + 1'000'000'000;  // no process or descriptor to be had just now
    respawns_.push_back(std::move(due));
  }
}

int Supervisor::next_turn_ms() const noexcept {
  uint64_t next = UINT64_MAX;
  for (const auto& respawn : respawns_) next = std::min(next, respawn.due_ns);
  for (const auto& worker : workers_)
    if (worker->deadline_ns != 0) next = std::min(next, worker->deadline_ns);
  if (next == UINT64_MAX) return -1;
  const uint64_t now = now_ns();
  return next <= now ? 0 : static_cast<int>((next - now) / 1'000'000) + 1;
}

}  // namespace lb
