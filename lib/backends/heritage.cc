// SPDX-License-Identifier: MIT
#include "backends/heritage.hh"

namespace lb {

Result<Heritage> EndpointBackend::bequeath() noexcept { return Error{EOPNOTSUPP, "the endpoint's sockets cannot be passed on"}; }

}  // namespace lb
