// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdio>

namespace lbbench {

/// Columns of the terminal that `out` is, if it can show bars of Unicode blocks: a UTF-8 locale, no TERM=dumb, and no NO_COLOR, by which
/// people ask for plain text (https://no-color.org). Else 0.
size_t bar_columns(std::FILE* out);

}  // namespace lbbench
