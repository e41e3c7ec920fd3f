// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

namespace lb::test {

/// What the process holds when this is made; `check` fails the test if there is more: descriptors, children, BPF
/// objects.
class Leaks {
 public:
  Leaks();
  void check() const;

 private:
  void check_fds() const;
  void check_children() const;
  void check_programs() const;

  std::map<int, std::string> fds_;
  std::set<uint32_t> programs_;
};

/// Checks every test for leaks.
void install_leak_listener();

}  // namespace lb::test
