// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <vector>

namespace lbbench {

/// The children of a process, by proc(5): those alive, in the order of their pids.
std::vector<pid_t> children_of(pid_t pid);

/// Children, their children, and so on.
std::vector<pid_t> descendants_of(pid_t pid);

}  // namespace lbbench
