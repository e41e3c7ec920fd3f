// SPDX-License-Identifier: MIT
#include "footprint.hh"

#include <dirent.h>
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <array>
#include <cstdio>

namespace lbbench {

unsigned descriptors_of(pid_t pid) {
  DIR* dir = opendir(fmt::format("/proc/{}/fd", pid).c_str());
  if (dir == nullptr) return 0;
  unsigned count = 0;
  while (const dirent* entry = readdir(dir)) count += entry->d_name[0] != '.' ? 1 : 0;
  closedir(dir);
  return count;
}

Footprint Footprint::of_this_process() {
  malloc_trim(0);  // free memory that malloc keeps, some 10 MiB after libbpf has read the kernel's types, is no growth
  Footprint footprint{.descriptors = descriptors_of(getpid()) - 1, .memory_kib = 0};  // not the one that looks
  std::FILE* file = std::fopen("/proc/self/status", "re");
  if (file == nullptr) return footprint;
  std::array<char, 256> line;
  unsigned long kib = 0;
  while (std::fgets(line.data(), line.size(), file) != nullptr)
    if (std::sscanf(line.data(), "RssAnon: %lu", &kib) == 1) footprint.memory_kib = kib;
  std::fclose(file);
  return footprint;
}

}  // namespace lbbench
