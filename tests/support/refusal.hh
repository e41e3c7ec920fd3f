// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "test_cluster.hh"

namespace lb::test {

/// What became of a worker's listen.
struct Refusal {
  int code = 0;  ///< an errno; 0: it was not refused
  std::string message;
};

/// Spawns a worker that asks for `endpoint`, and leaves. Drives the cluster until it has gone.
Refusal ask_for(TestCluster& cluster, const std::string& endpoint, const ListenOptions& options = {});

/// Fails the test if the worker is not refused with `code`, or if the message does not name the endpoint; gives the message.
std::string refusal(TestCluster& cluster, const std::string& endpoint, int code, const ListenOptions& options = {});

void expect_contains(const std::string& text, const std::string& part);

}  // namespace lb::test
