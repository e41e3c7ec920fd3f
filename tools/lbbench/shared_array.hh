// SPDX-License-Identifier: MIT
#pragma once

#include <sys/mman.h>

#include <new>
#include <span>
#include <type_traits>

namespace lbbench {

/// Memory that this process and those it forks see alike, zeroed, present before use.
template <class T>
class SharedArray {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  explicit SharedArray(size_t count) : count_(count) {
    void* memory = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    items_ = static_cast<T*>(memory);
  }
  ~SharedArray() { munmap(items_, bytes()); }
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;

  std::span<T> all() const { return {items_, count_}; }
  T& operator[](size_t i) const { return items_[i]; }

 private:
  size_t bytes() const { return sizeof(T) * (count_ > 0 ? count_ : 1); }

  size_t count_;
  T* items_ = nullptr;
};

}  // namespace lbbench
