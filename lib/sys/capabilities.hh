// SPDX-License-Identifier: MIT
#pragma once

#include <lb/result.hh>

namespace lb {

/// Gives up, for good, every capability of the calling thread, and its right to get any by execve(2): the effective, permitted,
/// inheritable and ambient sets become empty, the bounding set too where CAP_SETPCAP allows it, and no_new_privs is set, which binds
/// root as well (capabilities(7), PR_SET_NO_NEW_PRIVS(2const)). Makes system calls only, so it may be called between fork and exec.
Result<void> drop_capabilities() noexcept;

}  // namespace lb
