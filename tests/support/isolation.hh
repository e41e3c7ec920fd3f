// SPDX-License-Identifier: MIT
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <functional>
#include <initializer_list>

namespace lb::test {

/// Runs `body` in a forked child, whose failed expectations fail this test and whose skip skips it. For what cannot be
/// undone (capabilities, seccomp filters, limits) and for what must be one process (lb::run).
void in_child(const std::function<void()>& body);

/// From here on the system call `number` fails with `error` in this process and its children. False if that cannot be
/// had.
bool refuse_syscall(int number, int error) noexcept;

/// Gives up every capability but these (capabilities(7)). False if one of these was not there to keep.
bool keep_capabilities(std::initializer_list<int> kept) noexcept;

/// True if this process has the capability in effect.
bool has_capability(int capability) noexcept;

/// Sets how many descriptors a process may have, more or fewer than it has now (RLIMIT_NOFILE).
void limit_descriptors(pid_t pid, rlim_t count);

/// Sets an environment variable until the end of the scope.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value);
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;
  ~ScopedVariable();

 private:
  const char* name_;
};

}  // namespace lb::test
