// SPDX-License-Identifier: MIT
#pragma once

/// Marks what liblb.so exports; everything else has hidden visibility.
#define LB_API [[gnu::visibility("default")]]
/// Takes an inner class of an exported one out again.
#define LB_HIDDEN [[gnu::visibility("hidden")]]
