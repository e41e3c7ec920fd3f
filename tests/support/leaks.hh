// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <string>

#include "new_threads.hh"

namespace lb::test {

/// What the process holds when this is made; `check` fails the test if there is more: threads (those that are about
/// to end are waited for), descriptors, children. Where none is left, no BPF object is: liblb pins none, so that each lives by a descriptor
/// or a socket of some process.
class Leaks {
 public:
  Leaks();
  void check() const;

 private:
  void check_fds() const;
  void check_children() const;

  NewThreads threads_;
  std::map<int, std::string> fds_;
};

/// Checks every test for leaks.
void install_leak_listener();

}  // namespace lb::test
