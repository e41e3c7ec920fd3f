// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <forward_list>
#include <string>
#include <string_view>

#include <lb/result.hh>

namespace lb {

/// The error of the system call that has just failed. `op` must be a literal.
inline Error last_error(const char* op) noexcept { return {errno, op}; }

/// An error whose operation names an argument: kept for the life of the process, once for each distinct text, so that
/// Error stays 16 bytes. After a thousand of them only the first word is, so that is to be ours. For set-up paths: it allocates.
Error error_naming(int code, std::string_view op) noexcept;

/// While it lives, the texts that this thread's error_naming makes are its own and go with it: for errors that a peer provokes and
/// is told, with arguments of its choice, which would else use up the room that there is for all.
class PassingErrors {
 public:
  PassingErrors() noexcept;
  PassingErrors(const PassingErrors&) = delete;
  PassingErrors& operator=(const PassingErrors&) = delete;
  ~PassingErrors();

  const char* keep(std::string_view text) { return texts_.emplace_front(text).c_str(); }

 private:
  std::forward_list<std::string> texts_;
  PassingErrors* outer_;
};

}  // namespace lb
