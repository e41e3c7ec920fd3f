// SPDX-License-Identifier: MIT
#pragma once

#include <lb/listener.hh>
#include <lb/worker.hh>

namespace example {

/// Serves HTTP until the worker is drained: an event loop on epoll, with the listener in it. Gives the exit code.
int serve_http(lb::Worker& worker, lb::Listener listener);

}  // namespace example
