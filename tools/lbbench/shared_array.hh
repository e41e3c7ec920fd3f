// SPDX-License-Identifier: MIT
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <lb/unique_fd.hh>
#include <new>
#include <span>
#include <type_traits>

namespace lbbench {

/// Memory that this process and those it forks see alike, zeroed, present before use; and those it executes, by its descriptor.
template <class T>
class SharedArray {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  explicit SharedArray(size_t count) : count_(count), fd_(memfd_create("lbbench", MFD_CLOEXEC)) {
    if (!fd_ || ftruncate(fd_.get(), static_cast<off_t>(bytes())) != 0) throw std::bad_alloc();
    map();
  }
  /// What another process has made.
  SharedArray(lb::UniqueFd fd, size_t count) : count_(count), fd_(std::move(fd)) { map(); }
  ~SharedArray() { munmap(items_, bytes()); }
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;

  std::span<T> all() const { return {items_, count_}; }
  T& operator[](size_t i) const { return items_[i]; }
  int fd() const { return fd_.get(); }

 private:
  size_t bytes() const { return sizeof(T) * (count_ > 0 ? count_ : 1); }

  void map() {
    void* memory = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_.get(), 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    items_ = static_cast<T*>(memory);
  }

  size_t count_;
  lb::UniqueFd fd_;
  T* items_ = nullptr;
};

}  // namespace lbbench
