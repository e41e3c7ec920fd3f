// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <string>

namespace lb::test {

/// What the process holds when this is made; `check` fails the test if there is more: descriptors, children. Where neither
/// is left, no BPF object is: liblb pins none, so that each lives by a descriptor or a socket of some process.
class Leaks {
 public:
  Leaks();
  void check() const;

 private:
  void check_fds() const;
  void check_children() const;

  std::map<int, std::string> fds_;
};

/// Checks every test for leaks.
void install_leak_listener();

}  // namespace lb::test
