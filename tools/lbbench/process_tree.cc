// SPDX-License-Identifier: MIT
#include "process_tree.hh"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

namespace lbbench {
namespace {

/// "PID (NAME) STATE PPID ...": the name may hold anything, parentheses too. 0 for who has gone, or is a zombie.
pid_t parent_of(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(stat, line);
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos || name_end + 4 >= line.size() || line[name_end + 2] == 'Z') return 0;
  return static_cast<pid_t>(std::strtol(line.c_str() + name_end + 4, nullptr, 10));
}

std::multimap<pid_t, pid_t> children_by_parent() {
  std::multimap<pid_t, pid_t> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    pid_t pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error == std::errc{} && end == name.data() + name.size()) children.emplace(parent_of(pid), pid);
  }
  return children;
}

}  // namespace

std::vector<pid_t> children_of(pid_t pid) {
  const auto all = children_by_parent();
  std::vector<pid_t> found;
  for (auto [at, end] = all.equal_range(pid); at != end; ++at) found.push_back(at->second);
  std::ranges::sort(found);
  return found;
}

std::vector<pid_t> descendants_of(pid_t pid) {
  const auto all = children_by_parent();
  std::vector<pid_t> found{pid};
  for (size_t i = 0; i < found.size(); ++i) {
    for (auto [at, end] = all.equal_range(found[i]); at != end; ++at) found.push_back(at->second);
  }
  found.erase(found.begin());
  return found;
}

}  // namespace lbbench
