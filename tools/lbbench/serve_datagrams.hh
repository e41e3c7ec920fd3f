// SPDX-License-Identifier: MIT
#pragma once

#include <lb/datagram.hh>
#include <lb/worker.hh>

#include "work.hh"

namespace lbbench {

/// Answers datagrams one after another until the worker is drained: waiting for each (serial), or told by epoll.
void serve_datagrams(lb::Worker& worker, lb::DatagramSocket& socket, const Workload& workload, WorkerModel model);

}  // namespace lbbench
