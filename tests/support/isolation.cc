// SPDX-License-Identifier: MIT
#include "isolation.hh"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "leaks.hh"

namespace lb::test {
namespace {

constexpr int kSkipped = 77;

using CapabilitySets = std::array<__user_cap_data_struct, 2>;

bool get_capabilities(CapabilitySets& sets) noexcept {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  return ::syscall(SYS_capget, &header, sets.data()) == 0;
}

}  // namespace

void in_child(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0) << std::strerror(errno);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Leaks leaks;
    body();
    leaks.check();
    std::fflush(nullptr);
    if (testing::Test::HasFailure()) ::_exit(1);
    ::_exit(testing::Test::IsSkipped() ? kSkipped : 0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == kSkipped) GTEST_SKIP() << "skipped in the child";
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
      << (WIFSIGNALED(status) ? "the child was killed by signal " + std::to_string(WTERMSIG(status))
                              : std::string("the child failed, see above"));
}

bool refuse_syscall(int number, int error) noexcept {
#if defined(__x86_64__)
  constexpr uint32_t architecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
  constexpr uint32_t architecture = AUDIT_ARCH_AARCH64;
#else
  constexpr uint32_t architecture = 0;  // the filter then lets everything pass
#endif
  std::array<sock_filter, 6> filter{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (static_cast<uint32_t>(error) & SECCOMP_RET_DATA)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{.len = static_cast<unsigned short>(filter.size()), .filter = filter.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) return false;
  errno = 0;
  return ::syscall(number, 0, 0, 0, 0, 0, 0) < 0 && errno == error;
}

bool has_capability(int capability) noexcept {
  CapabilitySets sets{};
  return get_capabilities(sets) && (sets[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
}

bool keep_capabilities(std::initializer_list<int> kept) noexcept {
  for (const int capability : kept) {
    if (!has_capability(capability)) return false;
  }
  CapabilitySets sets{};
  for (const int capability : kept) {
    auto& set = sets[CAP_TO_INDEX(capability)];
    set.effective |= CAP_TO_MASK(capability);
    set.permitted |= CAP_TO_MASK(capability);
  }
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  return ::syscall(SYS_capset, &header, sets.data()) == 0;
}

void limit_descriptors(pid_t pid, rlim_t count) {
  rlimit limit{};
  ASSERT_EQ(::prlimit(pid, RLIMIT_NOFILE, nullptr, &limit), 0);
  limit.rlim_cur = count;
  ASSERT_EQ(::prlimit(pid, RLIMIT_NOFILE, &limit, nullptr), 0);
}

ScopedVariable::ScopedVariable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
ScopedVariable::~ScopedVariable() { ::unsetenv(name_); }

}  // namespace lb::test
