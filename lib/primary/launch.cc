// SPDX-License-Identifier: MIT
#include "primary/launch.hh"

#include <sys/wait.h>

#include "sys/error.hh"
#include "worker/environment.hh"
#include "worker/worker_impl.hh"

namespace lb {
namespace {

class ProcessLife final : public Life {
 public:
  ProcessLife(pid_t pid, UniqueFd pidfd) noexcept : pid_(pid), pidfd_(std::move(pidfd)) {}

  int exit_fd() const noexcept override { return pidfd_.get(); }
  pid_t pid() const noexcept override { return pid_; }
  Result<void> signal(int signal) noexcept override { return signal_process(pidfd_.get(), signal); }
  Result<ExitStatus> reap() noexcept override { return lb::reap(pidfd_.get()); }
  Result<std::optional<ExitStatus>> try_reap() noexcept override { return lb::try_reap(pidfd_.get()); }

 private:
  pid_t pid_;
  UniqueFd pidfd_;
};

bool names(const std::string& text, const char* variable) { return text.compare(0, text.find('='), variable) == 0; }

}  // namespace

Result<std::unique_ptr<Life>> hold_process(pid_t pid) noexcept {
  auto pidfd = open_pidfd(pid);
  if (!pidfd) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return pidfd.error();
  }
  return std::unique_ptr<Life>(std::make_unique<ProcessLife>(pid, std::move(*pidfd)));
}

int run_function(std::unique_ptr<Worker::Impl> impl, const WorkerFunction& function, std::function<void()> farewell) {
  struct Word {
    Worker::Impl* worker;  // null: it is gone
    bool returned;
  };
  auto word = std::make_shared<Word>(Word{impl.get(), false});
  impl->at_end([word, farewell = std::move(farewell)] {
    if (!word->returned) word->worker->announce_exit();
    word->worker = nullptr;
    if (farewell) farewell();
  });
  Worker worker(std::move(impl));
  const int code = function(worker);
  word->returned = true;
  if (word->worker != nullptr && (code == 0 || word->worker->draining())) word->worker->announce_exit();
  return code;
}

Result<void> validate_environment(const std::vector<std::string>& env) noexcept try {
  for (const auto& text : env) {
    const size_t name = text.find('=');
    if (name == std::string::npos || name == 0 || text.find('\0') != std::string::npos)
      return error_naming(EINVAL, "spawn: env \"" + text + "\" (allowed: NAME=value)");
    if (names(text, kWorkerIdVariable) || names(text, kChannelVariable) || names(text, kUpgradeVariable))
      return error_naming(EINVAL, "spawn: env \"" + text + "\": liblb sets this one itself");
  }
  return {};
} catch (...) {
  return Error{ENOMEM, "spawn: env"};
}

}  // namespace lb
