// SPDX-License-Identifier: MIT
#pragma once

#include <lb/result.hh>
#include <lb/unique_fd.hh>

namespace lb {

/// By which workers wake the primary: an eventfd(2) that all of them hold. Rings merge.
class Doorbell {
 public:
  static Result<Doorbell> create() noexcept;

  int fd() const noexcept { return fd_.get(); }
  /// Primary: has heard it.
  void silence() noexcept;

  static void ring(int fd) noexcept;

 private:
  UniqueFd fd_;
};

}  // namespace lb
