// SPDX-License-Identifier: MIT
#pragma once

#include <lb/cluster.hh>

namespace lb {

/// Whether they are such as a cluster can be made with; the error names the one that is not, and what is allowed.
Result<void> validate(const Options& options) noexcept;

}  // namespace lb
