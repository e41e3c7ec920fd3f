// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <string>
#include <string_view>

#include <lb/result.hh>

namespace lb {

/// The error of the system call that has just failed. `op` must be a literal.
inline Error last_error(const char* op) noexcept { return {errno, op}; }

/// An error whose operation names an argument: kept for the life of the process, once for each distinct text, so that
/// Error stays 16 bytes. For set-up paths: it allocates.
Error error_naming(int code, std::string_view op) noexcept;

}  // namespace lb
