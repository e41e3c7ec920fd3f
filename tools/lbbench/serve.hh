// SPDX-License-Identifier: MIT
#pragma once

#include <lb/listener.hh>
#include <lb/worker.hh>

#include "work.hh"

namespace lbbench {

/// A worker as the simplest program would have it: one connection at a time, from accept to close. Returns once
/// drained.
void serve_serially(lb::Worker& worker, lb::Listener& listener, const Workload& workload);

/// A worker with an epoll loop: several connections open, requests served one at a time as they come; a new connection
/// is taken only when no request waits. Returns once drained and all connections are closed, or on an error of epoll.
void serve_by_event_loop(lb::Worker& worker, lb::Listener& listener, const Workload& workload);

}  // namespace lbbench
