// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace lb {

/// What an operator asks of the primary, one line of words:
///
///     lb/1 status
///     lb/1 drain WORKER [DEADLINE_MS]
///     lb/1 roll [AT_ONCE]
///     lb/1 scale WORKERS
///     lb/1 weight WORKER WEIGHT
///     lb/1 policy POLICY [ENDPOINT]    (the rest of the line: a path may have blanks)
///     lb/1 upgrade
struct AdminRequest {
  enum class Verb { status, drain, roll, scale, weight, policy, upgrade };

  Verb verb{};
  uint32_t worker = 0;
  std::optional<std::chrono::milliseconds> deadline{};
  std::optional<unsigned> at_once{};
  unsigned workers = 0;
  uint16_t weight = 0;
  std::string policy{};
  std::string endpoint{};  ///< empty: all
};

inline constexpr std::string_view kAdminProtocol = "lb/1";
inline constexpr size_t kAdminRequestMax = 512;  // bytes, the line's end included

/// The request, or what is wrong with the line and what is allowed. Without the line's end; any bytes.
std::variant<AdminRequest, std::string> parse_admin_request(std::string_view line);

}  // namespace lb
