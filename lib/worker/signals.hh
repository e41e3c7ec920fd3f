// SPDX-License-Identifier: MIT
#pragma once

namespace lb {

/// What signals mean to a worker process. SIGTERM drains it, by way of the eventfd `stop_fd`. SIGINT and SIGHUP come from a terminal to
/// the whole group: the primary acts on them, a worker need not. SIGPIPE would kill a worker for its client's early leave. A child that
/// the worker forks is ended by SIGTERM as any process is.
void set_worker_signals(int stop_fd) noexcept;
/// The Worker is gone: SIGTERM does nothing any more, since the process is about to leave.
void forget_stop_fd() noexcept;

}  // namespace lb
