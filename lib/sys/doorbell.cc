// SPDX-License-Identifier: MIT
#include "sys/doorbell.hh"

#include <sys/eventfd.h>

#include "sys/error.hh"

namespace lb {

Result<Doorbell> Doorbell::create() noexcept {
  Doorbell bell;
  bell.fd_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!bell.fd_) return last_error("eventfd");
  return bell;
}

void Doorbell::silence() noexcept {
  uint64_t rings = 0;
  (void)!::read(fd_.get(), &rings, sizeof rings);
}

void Doorbell::ring(int fd) noexcept {
  const uint64_t one = 1;
  (void)!::write(fd, &one, sizeof one);  // EAGAIN: it has been rung 2^64-2 times and will be heard
}

}  // namespace lb
