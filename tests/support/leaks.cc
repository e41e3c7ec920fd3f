// SPDX-License-Identifier: MIT
#include "leaks.hh"

#include <dirent.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <lb/unique_fd.hh>
#include <memory>
#include <optional>
#include <sstream>

namespace lb::test {
namespace {

namespace fs = std::filesystem;

std::map<int, std::string> open_fds() {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/fd"), ::closedir);
  std::map<int, std::string> fds;
  while (const dirent* entry = folder ? ::readdir(folder.get()) : nullptr) {
    if (entry->d_name[0] == '.') continue;
    const int fd = std::atoi(entry->d_name);
    if (fd == ::dirfd(folder.get())) continue;
    std::error_code gone;
    fds[fd] = fs::read_symlink(fs::path("/proc/self/fd") / entry->d_name, gone).string();
  }
  return fds;
}

std::vector<pid_t> own_children() {
  const auto self = std::to_string(::getpid());
  std::ifstream file("/proc/self/task/" + self + "/children");
  std::vector<pid_t> children;
  for (pid_t pid = 0; file >> pid;) children.push_back(pid);
  return children;
}

long bpf(bpf_cmd command, bpf_attr& attributes) noexcept { return ::syscall(SYS_bpf, command, &attributes, sizeof attributes); }

/// The type of a loaded BPF program; empty if it has gone or may not be looked at.
std::optional<uint32_t> program_type(uint32_t id) noexcept {
  bpf_attr attributes{};
  attributes.prog_id = id;
  const UniqueFd program(static_cast<int>(bpf(BPF_PROG_GET_FD_BY_ID, attributes)));
  if (!program) return {};
  bpf_prog_info about{};
  attributes = {};
  attributes.info.bpf_fd = static_cast<uint32_t>(program.get());
  attributes.info.info_len = sizeof about;
  attributes.info.info = reinterpret_cast<uint64_t>(&about);
  if (bpf(BPF_OBJ_GET_INFO_BY_FD, attributes) != 0) return {};
  return about.type;
}

/// Programs of liblb's kind. Empty without the right to look.
std::set<uint32_t> reuseport_programs() noexcept {
  std::set<uint32_t> ids;
  bpf_attr attributes{};
  while (bpf(BPF_PROG_GET_NEXT_ID, attributes) == 0) {
    const uint32_t id = attributes.next_id;
    if (program_type(id) == BPF_PROG_TYPE_SK_REUSEPORT) ids.insert(id);
    attributes = {};
    attributes.start_id = id;
  }
  return ids;
}

/// True if a process of another process group has the program open: somebody else uses liblb on this machine.
bool is_foreign(uint32_t program) {
  const auto mark = "prog_id:\t" + std::to_string(program) + "\n";
  std::error_code gone;
  for (const auto& process : fs::directory_iterator("/proc", gone)) {
    const pid_t pid = std::atoi(process.path().filename().c_str());
    if (pid <= 0 || ::getpgid(pid) == ::getpgid(0)) continue;
    for (auto fd = fs::directory_iterator(process.path() / "fdinfo", gone); fd != fs::directory_iterator(); fd.increment(gone)) {
      std::stringstream text;
      text << std::ifstream(fd->path()).rdbuf();
      if (text.str().find(mark) != std::string::npos) return true;
    }
  }
  return false;
}

class LeakListener : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { before_.emplace(); }
  void OnTestEnd(const testing::TestInfo&) override {
    before_->check();
    before_.reset();
  }
  std::optional<Leaks> before_;
};

}  // namespace

Leaks::Leaks() : fds_(open_fds()), programs_(reuseport_programs()) {}

void Leaks::check() const {
  check_children();
  check_fds();
  check_programs();
}

void Leaks::check_fds() const {
  for (const auto& [fd, target] : open_fds()) {
    EXPECT_TRUE(fds_.count(fd) == 1) << "descriptor " << fd << " was left open: " << target;
  }
}

void Leaks::check_children() const {
  for (const pid_t pid : own_children()) {
    const bool ended = ::waitpid(pid, nullptr, WNOHANG) == pid;
    ADD_FAILURE() << "child " << pid << (ended ? " was left unreaped" : " was left running");
    if (!ended && ::kill(pid, SIGKILL) == 0) ::waitpid(pid, nullptr, 0);
  }
  EXPECT_TRUE(::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD) << "a child was left";
}

void Leaks::check_programs() const {
  constexpr int patience_ms = 5000;  // the kernel frees programs some time after their last user has gone, and tells nobody
  for (int waited_ms = 0;; waited_ms += 10) {
    std::set<uint32_t> left;
    for (const uint32_t id : reuseport_programs()) {
      if (programs_.count(id) == 0 && !is_foreign(id)) left.insert(id);
    }
    if (left.empty()) return;
    if (waited_ms >= patience_ms) {
      ADD_FAILURE() << left.size() << " BPF program(s) left loaded, the first with id " << *left.begin();
      return;
    }
    ::poll(nullptr, 0, 10);
  }
}

void install_leak_listener() {
  testing::UnitTest::GetInstance()->listeners().Append(new LeakListener);  // which owns it
}

}  // namespace lb::test
