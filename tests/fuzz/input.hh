// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace lb::fuzz {

/// Takes a fuzzer's bytes apart, front to back; what is not there any more reads as zero.
class Input {
 public:
  Input(const uint8_t* bytes, size_t size) noexcept : bytes_(bytes), left_(size) {}

  bool more() const noexcept { return left_ > 0; }

  template <class T>
  T take() noexcept {
    T value{};
    const size_t size = left_ < sizeof value ? left_ : sizeof value;
    std::memcpy(&value, bytes_, size);
    skip(size);
    return value;
  }

  /// One of 0 .. count-1.
  unsigned below(unsigned count) noexcept { return take<uint8_t>() % count; }

  std::string_view text(size_t size_max) noexcept {
    const size_t size = left_ < size_max ? left_ : size_max;
    const std::string_view text(reinterpret_cast<const char*>(bytes_), size);
    skip(size);
    return text;
  }

 private:
  void skip(size_t size) noexcept {
    bytes_ += size;
    left_ -= size;
  }

  const uint8_t* bytes_;
  size_t left_;
};

}  // namespace lb::fuzz
