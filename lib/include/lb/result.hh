// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include <lb/export.hh>

namespace lb {

/// Why an operation failed: an errno, and what was tried. 16 bytes; copying it allocates nothing.
struct Error {
  int code = 0;         ///< an errno(3) value
  const char* op = "";  ///< what was tried, with its argument: "bind tcp://127.0.0.1:80"; lives as long as the process

  /// "bind tcp://127.0.0.1:80: Address already in use".
  LB_API std::string message() const;
};

/// Throws std::system_error with the error's code and operation.
[[noreturn]] LB_API void throw_error(const Error& error);

/// A value, or the Error that stood in its way. Ask with `if (result)`, or take `.value()`, which throws.
template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) noexcept(std::is_nothrow_move_constructible_v<T>)  // NOLINT: a value is a result
      : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) noexcept : state_(std::in_place_index<1>, error) {}  // NOLINT: so is an error

  bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  /// The value; throws std::system_error when there is none.
  T& value() & { return ok() ? *std::get_if<0>(&state_) : (throw_error(error()), *std::get_if<0>(&state_)); }
  const T& value() const& { return const_cast<Result*>(this)->value(); }
  T value() && { return std::move(value()); }

  /// The value, unchecked: ask first.
  T& operator*() & noexcept { return *std::get_if<0>(&state_); }
  const T& operator*() const& noexcept { return *std::get_if<0>(&state_); }
  T operator*() && noexcept { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() noexcept { return std::get_if<0>(&state_); }
  const T* operator->() const noexcept { return std::get_if<0>(&state_); }

  /// The error; {0, ""} when there is none.
  Error error() const noexcept { return ok() ? Error{} : *std::get_if<1>(&state_); }

 private:
  std::variant<T, Error> state_;
};

/// Success, or the Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() noexcept = default;
  Result(Error error) noexcept : error_(error) {}  // NOLINT: an error is a result

  bool ok() const noexcept { return !error_; }
  explicit operator bool() const noexcept { return ok(); }
  void value() const {
    if (error_) throw_error(*error_);
  }
  Error error() const noexcept { return error_.value_or(Error{}); }

 private:
  std::optional<Error> error_;
};

}  // namespace lb
