// SPDX-License-Identifier: MIT
// Built without BPF: the callers take the next rung down.
#include "backends/reuseport_program.hh"

#include <cerrno>

namespace lb {

Result<UniqueFd> create_worker_pages_map() noexcept { return Error{ENOSYS, "eBPF selection (liblb was built without BPF)"}; }

Result<std::unique_ptr<ReuseportProgram>> ReuseportProgram::load(int, Rung, uint32_t) noexcept {
  return Error{ENOSYS, "eBPF selection (liblb was built without BPF)"};
}

}  // namespace lb
