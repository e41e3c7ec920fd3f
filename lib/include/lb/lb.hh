// SPDX-License-Identifier: MIT
#pragma once

/// liblb: one server program, a cluster of workers on one port. See README.md.

#include <lb/cluster.hh>
#include <lb/command.hh>
#include <lb/connection.hh>
#include <lb/datagram.hh>
#include <lb/endpoint.hh>
#include <lb/listen_options.hh>
#include <lb/listener.hh>
#include <lb/policy.hh>
#include <lb/result.hh>
#include <lb/roll.hh>
#include <lb/selector.hh>
#include <lb/status.hh>
#include <lb/unique_fd.hh>
#include <lb/user_message.hh>
#include <lb/version.hh>
#include <lb/worker.hh>
