// SPDX-License-Identifier: MIT
#pragma once

#include <string_view>

namespace lb {

/// Tells the service manager that started us, if it listens (sd_notify(3): NOTIFY_SOCKET). Best effort, as there.
void notify_service(std::string_view state) noexcept;

}  // namespace lb
