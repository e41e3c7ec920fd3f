// SPDX-License-Identifier: MIT
#pragma once

#include <sys/eventfd.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <lb/unique_fd.hh>
#include <new>
#include <system_error>

namespace lb::test {

/// A T that the test shares with every process it forks, and with a program that it gives fd() to.
template <class T>
class Shared {
 public:
  Shared() : fd_(::memfd_create("shared with a test", MFD_CLOEXEC)) {
    if (!fd_ || ::ftruncate(fd_.get(), sizeof(T)) != 0) {
      throw std::system_error(errno, std::generic_category(), "memfd_create");
    }
    value_ = new (map(fd_.get())) T{};
  }
  /// In the program: what the test has made, for as long as the program runs.
  static T& join(int fd) { return *static_cast<T*>(map(fd)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { ::munmap(static_cast<void*>(value_), sizeof(T)); }

  T* operator->() const noexcept { return value_; }
  T& operator*() const noexcept { return *value_; }
  int fd() const noexcept { return fd_.get(); }

 private:
  static void* map(int fd) {
    void* memory = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    return memory;
  }

  UniqueFd fd_;
  T* value_;
};

/// Where a worker waits until the test lets it go on. Make it before the worker is spawned.
class Gate {
 public:
  Gate() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE)) {
    if (!fd_) throw std::system_error(errno, std::generic_category(), "eventfd");
  }
  /// Lets `count` waiters through, now or when they come.
  void open(uint64_t count = 1) const noexcept { [[maybe_unused]] const auto n = ::write(fd_.get(), &count, sizeof count); }
  void wait() const noexcept {
    uint64_t one = 0;
    while (::read(fd_.get(), &one, sizeof one) < 0 && errno == EINTR) {
    }
  }
  int fd() const noexcept { return fd_.get(); }

 private:
  UniqueFd fd_;
};

}  // namespace lb::test
