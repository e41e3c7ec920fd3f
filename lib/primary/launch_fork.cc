// SPDX-License-Identifier: MIT
// A worker that is a function in a forked process.
#include <poll.h>
#include <stdio_ext.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "primary/launch.hh"
#include "sys/capabilities.hh"
#include "sys/error.hh"
#include "worker/environment.hh"
#include "worker/signals.hh"
#include "worker/worker_impl.hh"

namespace lb {
namespace {

/// Who reads what this stream writes does not keep up: a flush would wait for it.
bool would_wait(FILE* stream) noexcept {
  if (__fpending(stream) == 0) return false;
  pollfd out{::fileno(stream), POLLOUT, 0};
  return ::poll(&out, 1, 0) == 0;
}

[[noreturn]] void be_worker(uint32_t id, UniqueFd channel, const Recipe& recipe, const sigset_t& mask) noexcept {
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  set_worker_signals(stop.get());
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  this_process_is_a_worker();
  int code = kExitStartFailed;
  try {
    if (recipe.drops_capabilities) drop_capabilities().value();
    ::unsetenv(kAdminVariable);
    for (const auto& text : recipe.env)
      ::setenv(text.substr(0, text.find('=')).c_str(), text.substr(text.find('=') + 1).c_str(), 1);
    code = run_function(Worker::Impl::start(id, std::move(channel), std::move(stop)).value(), recipe.function, forget_stop_fd);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "worker %u: %s\n", id, failure.what());
  } catch (...) {
    std::fprintf(stderr, "worker %u: unknown exception\n", id);
  }
  std::fflush(nullptr);
  ::_exit(code);  // atexit handlers and static destructors are the primary's to run
}

}  // namespace

Result<std::unique_ptr<Life>> launch_fork(uint32_t id, UniqueFd channel, const Recipe& recipe, const sigset_t& mask,
                                          EventLoop& loop, const std::function<void()>& let_go) noexcept {
  const auto threads = thread_count();
  if (!threads)
    return error_naming(threads.error().code,
                        "spawn: fork, when it cannot be seen whether there are other threads: " + std::string(threads.error().op));
  if (*threads > 1)
    return Error{EDEADLK, "spawn: fork in a process with more than one thread (thread workers count; a Command may be spawned)"};
  if (auto valid = validate_environment(recipe.env); !valid) return valid.error();
  const sigset_t worker_mask = mask;
  // What is buffered would be written out a second time by the child. The primary waits for nobody who is to read it.
  const bool stuck = would_wait(stdout) || would_wait(stderr);
  if (!stuck) std::fflush(nullptr);
  loop.before_fork();
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (stuck) {
      __fpurge(stdout);
      __fpurge(stderr);
    }
    // Copies of the siblings' channel ends, of listening sockets and of the loop's ring must not live on in here.
    let_go();  // destroys the loop too
    be_worker(id, std::move(channel), recipe, worker_mask);
  }
  loop.after_fork();
  if (pid < 0) return last_error("fork");
  return hold_process(pid);
}

}  // namespace lb
