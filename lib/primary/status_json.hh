// SPDX-License-Identifier: MIT
#pragma once

#include <lb/status.hh>

#include "primary/json_writer.hh"

namespace lb {

/// The members "endpoints", "workers", "scaling", "generation", "roll" and "upgrade" of the object that is open, with the names that
/// <lb/status.hh> gives.
void write_status(JsonWriter& json, const Status& status);

}  // namespace lb
