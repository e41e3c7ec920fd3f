// SPDX-License-Identifier: MIT
// Workers within the primary's process: a thread, or the primary's own. Each has its own channel end, mappings and duplicates of
// descriptors, as a process would. Nothing can end such a worker but itself, so what it leaves behind is shared with its Life.
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <system_error>
#include <thread>

#include "primary/launch.hh"
#include "sys/capabilities.hh"
#include "sys/doorbell.hh"
#include "sys/error.hh"
#include "worker/worker_impl.hh"

namespace lb {
namespace {

/// How it ended, and that it has.
struct Ending {
  Doorbell bell;
  std::atomic<int> code{kExitStartFailed};
};

Result<std::shared_ptr<Ending>> make_ending() noexcept {
  auto bell = Doorbell::create();
  if (!bell) return bell.error();
  auto ending = std::make_shared<Ending>();
  ending->bell = std::move(*bell);
  return ending;
}

class InnerLife : public Life {
 public:
  explicit InnerLife(std::shared_ptr<Ending> ending) noexcept : ending_(std::move(ending)) {}
  int exit_fd() const noexcept override { return ending_->bell.fd(); }
  pid_t pid() const noexcept override { return ::getpid(); }
  Result<void> signal(int signal) noexcept override {
    if (signal == 0) return {};
    return Error{EOPNOTSUPP, "kill: this worker is a thread of the primary's process, which nothing can signal alone"};
  }
  Result<ExitStatus> reap() noexcept override { return ExitStatus{ending_->code.load(), 0}; }
  Result<std::optional<ExitStatus>> try_reap() noexcept override {  // it has rung: nothing is left for it to do
    auto status = reap();
    if (!status) return status.error();
    return std::optional(*status);
  }

 protected:
  std::shared_ptr<Ending> ending_;
};

class ThreadLife final : public InnerLife {
 public:
  ThreadLife(std::shared_ptr<Ending> ending, std::thread thread) noexcept
      : InnerLife(std::move(ending)), thread_(std::move(thread)) {}
  ~ThreadLife() override {
    if (thread_.joinable()) thread_.detach();
  }
  Result<ExitStatus> reap() noexcept override {
    if (thread_.joinable()) thread_.join();
    return InnerLife::reap();
  }

 private:
  std::thread thread_;
};

int run_worker(uint32_t id, UniqueFd channel, UniqueFd stop, const Recipe& recipe) noexcept {
  try {
    if (recipe.drops_capabilities) drop_capabilities().value();
    return run_function(Worker::Impl::start(id, std::move(channel), std::move(stop)).value(), recipe.function);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "worker %u: %s\n", id, failure.what());
  } catch (...) {
    std::fprintf(stderr, "worker %u: unknown exception\n", id);
  }
  return kExitStartFailed;
}

/// Handlers of asynchronous signals stay the other threads' business. SIGPIPE would end the whole process for a client's early leave.
sigset_t signals_of_others() noexcept {
  sigset_t set;
  sigfillset(&set);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) sigdelset(&set, own);
  return set;
}

class SeatLife final : public InnerLife {
 public:
  SeatLife(std::shared_ptr<Ending> ending, std::unique_ptr<Worker::Impl> worker) noexcept
      : InnerLife(std::move(ending)), worker_(std::move(worker)) {}
  std::unique_ptr<Worker::Impl> take() noexcept { return std::move(worker_); }

 private:
  std::unique_ptr<Worker::Impl> worker_;
};

}  // namespace

Result<std::unique_ptr<Life>> launch_thread(uint32_t id, UniqueFd channel, const Recipe& recipe) noexcept try {
  auto ending = make_ending();
  if (!ending) return ending.error();
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));  // SIGTERM is the primary's: nobody will ring it
  if (!stop) return last_error("eventfd");
  const sigset_t blocked = signals_of_others();
  sigset_t before;
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  Result<std::unique_ptr<Life>> life = Error{EAGAIN, "spawn: no thread to be had"};
  try {
    std::thread thread([id, channel = std::move(channel), stop = std::move(stop), recipe, end = *ending]() mutable {
      end->code = run_worker(id, std::move(channel), std::move(stop), recipe);
      Doorbell::ring(end->bell.fd());
    });
    life = std::unique_ptr<Life>(std::make_unique<ThreadLife>(*ending, std::move(thread)));
  } catch (const std::system_error&) {  // the limit of threads is reached
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return life;
} catch (...) {
  return Error{ENOMEM, "spawn"};
}

Result<std::unique_ptr<Life>> launch_seat(uint32_t id, UniqueFd channel) noexcept try {
  auto ending = make_ending();
  if (!ending) return ending.error();
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return last_error("eventfd");
  auto worker = Worker::Impl::start(id, std::move(channel), std::move(stop));
  if (!worker) return worker.error();
  (*worker)->at_end([end = *ending, inside = worker->get()] {
    inside->announce_exit();
    end->code = 0;
    Doorbell::ring(end->bell.fd());
  });
  return std::unique_ptr<Life>(std::make_unique<SeatLife>(*ending, std::move(*worker)));
} catch (...) {
  return Error{ENOMEM, "join"};
}

std::unique_ptr<Worker::Impl> take_seat(Life& life) noexcept { return static_cast<SeatLife&>(life).take(); }

}  // namespace lb
