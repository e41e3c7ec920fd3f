// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "snapshot.hh"

namespace lbctl {

inline constexpr const char* kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

/// A snapshot in Prometheus's text format (prometheus.io/docs/instrumenting/exposition_formats).
std::string metrics_text(const Snapshot& snapshot);

}  // namespace lbctl
