// SPDX-License-Identifier: MIT
#include "sys/event_loop.hh"

#include <cerrno>

namespace lb {

Result<std::unique_ptr<EventLoop>> EventLoop::create_uring() noexcept { return Error{ENOSYS, "io_uring: built without it"}; }

}  // namespace lb
